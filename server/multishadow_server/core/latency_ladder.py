"""Latencies in a few fixed steps, for whoever can only take so many: histograms of metrics.

Reports are made from `latency`'s bins, which are 1 % wide; here the same answers stand on a ladder of 15 rungs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from multishadow_server.core import latency

RUNGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds; what took longer, and timeouts, lie beyond the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """Latencies by rung.

    Args:
        counts: one for each of RUNGS, of those up to its bound and above the one before; and one for those beyond.
        seconds: their sum, without timeouts, of which nobody knows how long they would have taken.
    """

    counts: Sequence[int] = (0,) * (len(RUNGS) + 1)
    seconds: float = 0.0

    def __add__(self, other: Distribution) -> Distribution:
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Distribution(counts=counts, seconds=self.seconds + other.seconds)

    def __sub__(self, other: Distribution) -> Distribution:
        counts = tuple(mine - theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Distribution(counts=counts, seconds=self.seconds - other.seconds)


class Ladder:
    """A distribution as it grows."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(RUNGS) + 1)
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count one; `inf` is a timeout."""
        self._counts[bisect_left(RUNGS, seconds)] += 1
        if seconds < math.inf:
            self._seconds += seconds

    def value(self) -> Distribution:
        """As it stands."""
        return Distribution(counts=tuple(self._counts), seconds=self._seconds)


def of_bins(bins: Mapping[float, int]) -> Distribution:
    """What `latency` counted, by bin; a bin is where its geometric middle is, so bounds are off by 0.5 % at most."""
    counts, total = [0] * (len(RUNGS) + 1), 0.0
    for edge, count in bins.items():
        rung, seconds = _place(edge)
        counts[rung] += count
        total += seconds * count
    return Distribution(counts=tuple(counts), seconds=total)


@lru_cache(maxsize=4_096)
def _place(edge: float) -> tuple[int, float]:
    """The rung of a bin, and what an answer in it adds to the sum."""
    if math.isinf(edge):
        return len(RUNGS), 0.0
    middle = math.exp((edge + 0.5) * latency.LOG_WIDTH) * latency.SHORTEST
    return bisect_left(RUNGS, middle), middle
