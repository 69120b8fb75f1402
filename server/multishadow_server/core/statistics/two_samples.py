"""How much larger one rate is than another, from requests that chance dealt out to the one or the other; at every look.

Which version serves is decided by a hash of the session, so the requests of two serving versions are two samples of the
same traffic. Each rate has a confidence sequence; together they hold with the sum of their levels, whatever the two
samples have to do with each other and however their sizes were chosen on the way. That is what a rollout needs, whose
shares depend on what was seen before. Sharper tests of a common rate exist (Turner, Ly & Grünwald, "Generic E-variables
for exact sequential k-sample tests that allow for optional stopping", 2024), but a rollout asks for a difference that
matters, and to be shown the bounds by which it was judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multishadow_server.core.statistics import sequences


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """So many bad ones of n requests."""

    bad: int
    n: int

    @property
    def share(self) -> float:
        """The share so far; 0 without requests."""
        return self.bad / max(self.n, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """An estimate between its bounds."""

    estimate: float
    lower: float
    upper: float


def bounds(rate: Rate, *, log_threshold: float) -> Bounds:
    """Confidence sequence of one rate; [0, 1] without requests.

    Args:
        rate: the counts.
        log_threshold: ln(1/α).
    """
    lower, upper = sequences.rate(
        bad=np.array([float(rate.bad)]), n=np.array([float(rate.n)]), log_threshold=log_threshold
    )
    return Bounds(estimate=rate.share, lower=float(lower[0]), upper=float(upper[0]))


def difference(first: Rate, second: Rate, *, log_threshold: float) -> Bounds:
    """Bounds of (the first's rate) - (the second's), that hold at all times at once with probability 1 - α.

    Args:
        first: one sample.
        second: the other.
        log_threshold: ln(2/α): half of α for each sample.
    """
    one = bounds(first, log_threshold=log_threshold)
    other = bounds(second, log_threshold=log_threshold)
    return Bounds(estimate=one.estimate - other.estimate, lower=one.lower - other.upper, upper=one.upper - other.lower)
