"""Intervals of what rounds of a benchmark show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def interval_of(estimate: Callable[[Sequence[int]], float], rounds: int) -> tuple[float, float]:
    """A 95 % interval of what is estimated from some rounds, by the bootstrap over rounds."""
    draws = np.random.default_rng(7).integers(0, rounds, (1_000, rounds)).tolist()
    low, high = np.quantile([estimate(draw) for draw in draws], (0.025, 0.975))
    return float(low), float(high)


def with_interval(figures: tuple[float, float, float]) -> str:
    """A figure and its interval, as printed."""
    value, low, high = figures
    return f"{value:.2f} ({low:.2f}–{high:.2f})"
