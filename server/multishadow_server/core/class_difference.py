"""Two classifications: the label that each chose, and how likely each finds every class."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core.prediction import Classification

MOST_SHOWN = 12
LONGEST_LABEL = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassLine:
    """One class, with the probability that each finds it to have; None where it does not say, or says no number."""

    label: str
    live: float | None
    shadow: float | None
    live_chose: bool
    shadow_chose: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassDifference:
    """Two classifications side by side.

    Args:
        live_label, shadow_label: what each chose.
        live_confidence, shadow_confidence: how sure each was; None where it does not say.
        lines: classes, those that were chosen first, then the likeliest of either.
        more: how many classes are not among these.
    """

    live_label: str
    shadow_label: str
    live_confidence: float | None
    shadow_confidence: float | None
    lines: Sequence[ClassLine]
    more: int

    @property
    def confidence_delta(self) -> float | None:
        """The candidate's confidence minus live's."""
        if self.live_confidence is None or self.shadow_confidence is None:
            return None
        return self.shadow_confidence - self.live_confidence

    @property
    def has_probabilities(self) -> bool:
        """Whether either says how likely it finds any class."""
        return any(line.live is not None or line.shadow is not None for line in self.lines)


def difference(live: Classification, shadow: Classification) -> ClassDifference:
    """What differs between two classifications."""
    labels = {live.label, shadow.label} | live.probabilities.keys() | shadow.probabilities.keys()

    def rank(label: str) -> tuple[bool, float, str]:
        likeliest = max(_share(each.probabilities, label) or 0.0 for each in (live, shadow))
        return label not in {live.label, shadow.label}, -likeliest, label

    first = heapq.nsmallest(MOST_SHOWN, labels, key=rank)
    return ClassDifference(
        live_label=_cut(live.label),
        shadow_label=_cut(shadow.label),
        live_confidence=_number(live.confidence),
        shadow_confidence=_number(shadow.confidence),
        lines=[
            ClassLine(
                label=_cut(label),
                live=_share(live.probabilities, label),
                shadow=_share(shadow.probabilities, label),
                live_chose=label == live.label,
                shadow_chose=label == shadow.label,
            )
            for label in first
        ],
        more=len(labels) - len(first),
    )


def _share(probabilities: Mapping[str, float], label: str) -> float | None:
    return _number(probabilities.get(label))


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[:LONGEST_LABEL]}…"
