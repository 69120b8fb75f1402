"""Latency histograms whose bins add: 1 % wide on a logarithmic scale, so that a quantile is within 0.5 % at any size.

Bin i holds [1.01^i, 1.01^(i+1)) microseconds; for ratios the same without a unit, so i may be negative. A timeout is
longer than anything that was measured: its level is `inf`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

LOG_WIDTH = math.log(1.01)
TIMED_OUT = "inf"
SHORTEST = 1e-6
SLOW = 2.0
"""An answer is slow that took more than so many times as long as live's to the same request; the latency gate's bound
where a model names no other."""


def histogram(seconds: NDArray[np.float64]) -> dict[str, int]:
    """Count latencies by bin.

    Args:
        seconds: any shape; `inf` for timeouts. Below one microsecond counts as one microsecond.
    """
    return _count(np.maximum(seconds, SHORTEST) / SHORTEST)


def ratio_histogram(seconds: NDArray[np.float64], live_seconds: NDArray[np.float64]) -> dict[str, int]:
    """Count latency ratios to the live version by bin; both arrays have the same shape, `seconds` may hold `inf`."""
    return _count(np.maximum(seconds, SHORTEST) / np.maximum(live_seconds, SHORTEST))


def bin_of(seconds: float) -> int:
    """The bin of one latency."""
    # Counted in the live path: a comparison is quicker than a call of `max`.
    return int(math.log(seconds / SHORTEST) / LOG_WIDTH) if seconds > SHORTEST else 0


def percentile(levels: Mapping[str, int], percent: int) -> float | None:
    """The smallest latency, in seconds, that at least `percent` % of the answers kept to.

    Args:
        levels: count by bin.
        percent: in 1 … 100.

    Returns:
        The middle of its bin (geometric); `inf` when it is a timeout, None without answers.
    """
    total = sum(levels.values())
    below = 0
    for edge, level in sorted((float(level), level) for level in levels):
        below += levels[level]
        if total and below * 100 >= percent * total:
            return math.exp((edge + 0.5) * LOG_WIDTH) * SHORTEST
    return None


def _count(values: NDArray[np.float64]) -> dict[str, int]:
    bins, counts = np.unique(np.floor(np.log(values) / LOG_WIDTH), return_counts=True)
    return {
        TIMED_OUT if math.isinf(edge) else str(int(edge)): count
        for edge, count in zip(bins.tolist(), counts.tolist(), strict=True)
    }
