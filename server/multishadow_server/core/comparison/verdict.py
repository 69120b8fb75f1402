"""What a comparison of two answers comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Whether two answers agree. `uncomparable` counts for neither side."""

    AGREE = "agree"
    DIVERGE = "diverge"
    UNCOMPARABLE = "uncomparable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The live answer against one shadow's.

    Args:
        verdict: see Verdict.
        similarity: in [0, 1]; None if and only if uncomparable.
        reason: why, in snake_case, so that it can be a key of counts: always set when uncomparable, else empty.
        detail: what a person wants to know about it, possibly empty; a few hundred characters at most.
        confidence_delta: shadow's confidence minus live's, for classifications that both give one.
        live_confidence: live's confidence, for classifications that give one.
    """

    verdict: Verdict
    similarity: float | None
    reason: str = ""
    detail: str = ""
    confidence_delta: float | None = None
    live_confidence: float | None = None


def judged(*, agree: bool, similarity: float, detail: str = "") -> Comparison:
    """An agreement or a divergence."""
    verdict = Verdict.AGREE if agree else Verdict.DIVERGE
    return Comparison(verdict=verdict, similarity=similarity, detail=detail)


def uncomparable(reason: str, detail: str = "") -> Comparison:
    """Neither an agreement nor a divergence, and why."""
    return Comparison(verdict=Verdict.UNCOMPARABLE, similarity=None, reason=reason, detail=detail)
