"""Whether requests come in bursts: is the difference of two candidates more uneven over time than independence allows?

With b = only the first bad and c = only the second bad in a time bucket, M = b + c and d = b - c. When requests are
independent, each of the M discordant ones is the first's with one probability at all times, so that, given M, d has
mean M q and variance M (1 - q²), q being the sum of d over all buckets by that of M. Then

    dispersion = sum of (d - M q)² / (M (1 - q²)) over the buckets with M > 0, / (buckets - 1)

is near 1, and (buckets - 1) times it is near chi-squared with buckets - 1 degrees of freedom: the test of homogeneity
(Cochran, "Some methods for strengthening the common chi-squared tests", 1954). Given M, it does not matter how much
traffic a bucket had: neither a ramp nor a window nor the time of day looks like bursts, and no steady difference does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from multishadow_server.core.statistics.betting import Floats

FEWEST_BUCKETS = 10
FEWEST_DISCORDANT = 30
LARGEST_USUAL = 1.5
# A ratio alone is noise while buckets are few: ten independent ones exceed 1.5 one time in seven.
CHANCE = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispersion:
    """How uneven a difference is over time.

    Args:
        ratio: its variance, as a multiple of what independent requests have.
        buckets: how many time buckets that is from.
    """

    ratio: float
    buckets: int

    @property
    def is_excessive(self) -> bool:
        """Whether it is large, and larger than chance makes it once in a thousand."""
        freedom = self.buckets - 1
        return self.ratio > LARGEST_USUAL and float(chdtrc(freedom, freedom * self.ratio)) < CHANCE


def dispersion(only_first: Floats, only_second: Floats) -> Dispersion | None:
    """How uneven b - c is over time buckets; None while there is too little to say, or all are bad for one alone.

    Args:
        only_first: b by bucket, shape (buckets,).
        only_second: c likewise.
    """
    discordant = only_first + only_second
    some = discordant > 0
    if some.sum() < FEWEST_BUCKETS or discordant.sum() < FEWEST_DISCORDANT:
        return None
    m, d = discordant[some], (only_first - only_second)[some]
    delta = d.sum() / m.sum()
    if abs(delta) == 1:
        return None
    chi_squared = np.sum((d - m * delta) ** 2 / m) / (1 - delta**2)
    return Dispersion(ratio=float(chi_squared / (len(m) - 1)), buckets=len(m))
