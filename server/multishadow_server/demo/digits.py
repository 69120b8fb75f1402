"""Handwritten digits: 1,797 real 8×8 images that come with scikit-learn, and four classifiers.

The images are Alpaydin and Kaynak's (1998): "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol

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


class Classifier(Protocol):
    """What scikit-learn's classifiers can do."""

    classes_: Labels

    def predict(self, images: Images) -> Labels:
        """Labels, shape (n,), of images, shape (n, 64)."""
        ...

    def predict_proba(self, images: Images) -> Images:
        """Probabilities, shape (n, classes)."""
        ...


def _logistic_regression(pixels: Images, labels: Labels) -> LogisticRegression:
    return LogisticRegression(max_iter=1000).fit(pixels, labels)


def _in_eight_bits(pixels: Images, labels: Labels) -> LogisticRegression:
    classifier = _logistic_regression(pixels, labels)
    step = np.abs(classifier.coef_).max() / 127
    classifier.coef_ = np.round(classifier.coef_ / step) * step
    return classifier


def _on_few_images(pixels: Images, labels: Labels) -> LogisticRegression:
    return _logistic_regression(pixels[:FEW_IMAGES], labels[:FEW_IMAGES])


def _shallow_tree(pixels: Images, labels: Labels) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=8, random_state=0).fit(pixels, labels)


# Name: description, how it is trained. They differ as versions do: one made cheaper, one trained on too little, one of
# a method that does not suit.
_VERSIONS: Mapping[str, tuple[str, Callable[[Images, Labels], Classifier]]] = {
    "base": ("logistic regression", _logistic_regression),
    "A": ("the same with its weights rounded to 8 bits", _in_eight_bits),
    "B": (f"the same trained on {FEW_IMAGES} images only", _on_few_images),
    "C": ("a shallow decision tree", _shallow_tree),
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
    _, fit = _VERSIONS[version]
    pixels, labels, held_out, truth = images()
    classifier = fit(pixels / INK, labels)
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
    versions={name: description for name, (description, _) in _VERSIONS.items()},
    train=train,
    samples=samples,
)
