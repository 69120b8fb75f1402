"""What a model of the demonstration is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from multishadow.v1 import prediction_pb2 as prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedVersion:
    """One version, ready to answer.

    Args:
        quality: what was measured of it on held-out data, in words; empty when there is nothing to measure.
        answer: raises ValueError, with a message for the caller, on input that it cannot use.
    """

    quality: str
    answer: Callable[[prediction.PredictRequest], prediction.PredictResponse]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoModel:
    """One model.

    Args:
        name: what callers name in `Predict`.
        title: what it does, in a few words.
        versions: description by name; the first is the base, which is live at the beginning.
        train: train one version by name.
        samples: held-out requests, each a different one; no version was trained on them.
    """

    name: str
    title: str
    versions: Mapping[str, str]
    train: Callable[[str], TrainedVersion]
    samples: Callable[[], Sequence[prediction.PredictRequest]]

    @property
    def base(self) -> str:
        """The version that is live at the beginning."""
        return next(iter(self.versions))

    @property
    def candidates(self) -> tuple[str, ...]:
        """The versions that are shadowed."""
        return tuple(self.versions)[1:]
