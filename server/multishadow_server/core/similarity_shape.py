"""Distributions of similarity and of confidence, to be drawn beside the threshold from which answers agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

from multishadow_server.core.rollup import Family, Tables
from multishadow_server.core.tally import MILLIONTHS

EXACT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarityShape:
    """How similar one candidate's answers are to live's.

    Args:
        version: the candidate.
        n: comparisons that count; failures have similarity 0.
        shares: share of all in [i, i + 1) % for i in 0 … 99.
        exact: share of those that are exactly alike.
        below: share of those in bins that lie wholly below the threshold.
        mean: of all.
    """

    version: str
    n: int
    shares: tuple[float, ...]
    exact: float
    below: float
    mean: float

    def height(self, share: float) -> float:
        """How high a share is drawn, 1 being the highest: by its logarithm, so that single answers among many show.

        A single answer of n has twice the share that is drawn at 0.
        """
        if not share:
            return 0.0
        nothing = 0.5 / self.n
        return math.log(share / nothing) / math.log(max(*self.shares, self.exact) / nothing)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceShift:
    """How much more confident a candidate is than live, over comparisons in which both say how confident they are.

    Args:
        version: the candidate.
        n: such comparisons.
        mean: of candidate's confidence minus live's.
        deviation: standard deviation of the same.
    """

    version: str
    n: int
    mean: float
    deviation: float


def similarity(tables: Tables, version: str, *, threshold: float) -> SimilarityShape | None:
    """The shape of one candidate; None where nothing was compared."""
    levels = {int(level): count for level, count in tables.get((Family.SIMILARITY, version), {}).items()}
    n = sum(levels.values())
    if not n:
        return None
    return SimilarityShape(
        version=version,
        n=n,
        shares=tuple(levels.get(place, 0) / n for place in range(EXACT)),
        exact=levels.get(EXACT, 0) / n,
        # 100 times 0.85 is a little below 85.
        below=sum(count for place, count in levels.items() if place + 1 <= 100 * threshold + 1e-9) / n,
        mean=tables.get((Family.SIMILARITY_SUM, version), {}).get("sum", 0) / (MILLIONTHS * n),
    )


def confidence(tables: Tables, version: str) -> ConfidenceShift | None:
    """The shift of one candidate; None where answers have no confidence."""
    sums = tables.get((Family.CONFIDENCE_DELTA, version), {})
    n = sums.get("n", 0)
    if not n:
        return None
    mean = sums.get("sum", 0) / (MILLIONTHS * n)
    variance = max(sums.get("squares", 0) / (MILLIONTHS**2 * n) - mean**2, 0.0)
    return ConfidenceShift(version=version, n=n, mean=mean, deviation=math.sqrt(variance))
