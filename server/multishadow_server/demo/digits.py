"""Handwritten digits: 1,797 real 8×8 images that come with scikit-learn, and four classifiers.

The images are Alpaydin and Kaynak's (1998): "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from multishadow.v1 import prediction_pb2 as prediction
from multishadow_server.demo.model import DemoModel, TrainedVersion

TRAINING_IMAGES = 597
FEW_IMAGES = 100
SHAPE = (8, 8)
INK = 16.0  # largest pixel value

Images = NDArray[np.float64]
Labels = NDArray[np.int64]

# Name: description, classifier, how many images it is trained on. Differences are real ones, of kinds that happen: a
# setting that was tuned, a training set that was cut short, a method that does not suit.
_VERSIONS = {
    "live": ("logistic regression", LogisticRegression(C=1.0, max_iter=1000), TRAINING_IMAGES),
    "A": ("logistic regression, less regularised", LogisticRegression(C=4.0, max_iter=1000), TRAINING_IMAGES),
    "B": (f"logistic regression on {FEW_IMAGES} images only", LogisticRegression(max_iter=1000), FEW_IMAGES),
    "C": ("shallow decision tree", DecisionTreeClassifier(max_depth=8, random_state=0), TRAINING_IMAGES),
}


@cache
def images() -> tuple[Images, Labels, Images, Labels]:
    """Training images and labels, then held-out ones; pixels in [0, 16], shape (n, 64)."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    training, held_out = order[:TRAINING_IMAGES], order[TRAINING_IMAGES:]
    return pixels[training], labels[training], pixels[held_out], labels[held_out]


def train(version: str) -> TrainedVersion:
    """Train one version by name."""
    _, classifier, count = _VERSIONS[version]
    pixels, labels, held_out, truth = images()
    classifier.fit(pixels[:count] / INK, labels[:count])
    right = float(np.mean(classifier.predict(held_out / INK) == truth))

    def answer(request: prediction.PredictRequest) -> prediction.PredictResponse:
        probabilities = classifier.predict_proba(_pixels(request) / INK)[0]
        best = int(probabilities.argmax())
        named = {str(label): float(p) for label, p in zip(classifier.classes_, probabilities, strict=True)}
        label = str(classifier.classes_[best])
        return prediction.PredictResponse(
            classification=prediction.Classification(label=label, confidence=named[label], probabilities=named)
        )

    return TrainedVersion(quality=f"{right:.1%} of the held-out images right", answer=answer)


def samples() -> Sequence[prediction.PredictRequest]:
    """One request for each held-out image."""
    _, _, held_out, _ = images()
    return [_request(number, image) for number, image in enumerate(held_out)]


def _request(number: int, image: Images) -> prediction.PredictRequest:
    request = prediction.PredictRequest(
        model="digits",
        session_id=f"writer-{number}",
        tensor=prediction.Tensor(shape=SHAPE, values=image.astype(np.float32).tolist()),
    )
    request.attributes.update({"ink": "heavy" if image.mean() > 5.0 else "light"})
    return request


def _pixels(request: prediction.PredictRequest) -> Images:
    values = np.asarray(request.tensor.values, dtype=np.float64)
    if values.size != SHAPE[0] * SHAPE[1] or not np.isfinite(values).all():
        raise ValueError(f"digits takes a tensor of 64 finite pixels in [0, 16], not {values.size} values")
    return values.reshape(1, -1)


MODEL = DemoModel(
    name="digits",
    title="reads handwritten digits",
    versions={name: description for name, (description, _, _) in _VERSIONS.items()},
    train=train,
    samples=samples,
)
