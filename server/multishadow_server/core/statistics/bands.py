"""Bands of divergence: what a rate of divergence means for a rollout."""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum


class Band(StrEnum):
    """How much a candidate may diverge, and what to do about it."""

    SAFE = "< 1 % safe"
    INVESTIGATE = "1–5 % investigate"
    EDGE_CASES = "5–10 % edge cases"
    DO_NOT_ROLL_OUT = "> 10 % do not roll out"
    UNKNOWN = "unknown"


EDGES = (0.01, 0.05, 0.10)
_BY_EDGE = (Band.SAFE, Band.INVESTIGATE, Band.EDGE_CASES, Band.DO_NOT_ROLL_OUT)


def band_of(rate: float) -> Band:
    """The band of a rate in [0, 1]; an edge belongs to the worse band."""
    return _BY_EDGE[bisect_right(EDGES, rate)]
