"""Which way of release fits a kind of change, and why. It needs nobody's data: only what the change is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Change(StrEnum):
    """What is different about the new version."""

    RETRAINED = "retrained"
    ARCHITECTURE = "architecture"
    RUNTIME = "runtime"
    FEATURES = "features"
    INTERFACE = "interface"


class Way(StrEnum):
    """How it goes to production."""

    SHADOW = "shadow"
    CANARY = "canary"
    BLUE_GREEN = "blue-green"


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What to do.

    Args:
        way: how to release.
        reason: why.
        warnings: what to beware of.
        steps: commands, or what to do in their stead.
    """

    way: Way
    reason: str
    warnings: tuple[str, ...]
    steps: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"way": str(self.way), "warnings": list(self.warnings), "steps": list(self.steps)}


_REASONS = {
    Change.RETRAINED: "the same questions get the same kind of answers, so copies of real requests show where the new "
    "weights differ before any caller sees them",
    Change.ARCHITECTURE: "another architecture differs in ways that no test set was made for; copies of real requests "
    "show them, and its latency, at no caller's risk",
    Change.RUNTIME: "the same weights on another runtime or hardware must give the same answers: divergence should be "
    "near zero, and each one that is found is a fault",
    Change.FEATURES: "the request is the same and what is made of it is not; copies show both the differences and what "
    "the new features cost in time",
}
_STEPS = {
    Way.SHADOW: (
        "shadowctl start VERSION --percent 25 --for 14d",
        "shadowctl gates VERSION",
        "shadowctl promote VERSION --percent 5, then 25, 50, 100",
    ),
    Way.CANARY: (
        "shadowctl promote VERSION --percent 1 --force --reason TEXT, then 5, 25, 50, 100",
        "watch what users do at each stage; shadowctl rollback takes all of it back",
    ),
    Way.BLUE_GREEN: (
        "serve it beside the old one under a model name of its own: shadowctl apply",
        "move callers over when they can speak to it; keep the old one until none is left",
    ),
}


def advise(change: Change, *, writes: bool, reacts: bool, labels: bool) -> Advice:
    """Advice for a change.

    Args:
        change: what is different.
        writes: answering has side effects.
        reacts: what users do next depends on the answer.
        labels: right answers become known later.
    """
    way, reason = _way(change, writes=writes, reacts=reacts)
    return Advice(way=way, reason=reason, warnings=tuple(_warnings(change, way, labels=labels)), steps=_STEPS[way])


def _way(change: Change, *, writes: bool, reacts: bool) -> tuple[Way, str]:
    if change is Change.INTERFACE:
        return Way.BLUE_GREEN, (
            "requests or answers have another form, so a copy of an old request cannot be answered, or its answer not "
            "be compared"
        )
    if writes:
        return Way.CANARY, (
            "answering has side effects, and a copied request would have them twice; real requests to few callers have "
            "them once"
        )
    if reacts:
        return Way.CANARY, (
            "what counts is how users react, and nobody reacts to an answer that is never shown; shadow it before for "
            "errors and latency"
        )
    return Way.SHADOW, _REASONS[change]


def _warnings(change: Change, way: Way, *, labels: bool) -> Iterator[str]:
    if change is Change.ARCHITECTURE:
        yield (
            "different architectures: divergence is expected and says nothing of quality, confidences are on other "
            "scales, and latency in shadow is not that under live load"
        )
    if way is Way.SHADOW and not labels:
        yield (
            "without labels only agreement with live is measured: a better model must differ, and counts as worse for "
            "it; review divergent answers by hand"
        )
    if way is Way.CANARY:
        yield "callers do get its answers: begin with few, and have the rollback at hand"
