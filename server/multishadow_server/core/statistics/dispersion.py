"""Whether requests come in bursts: is the difference of two candidates more uneven over time than independence allows?

With b = only the first bad and c = only the second bad in a time bucket, d = b - c has variance b + c when requests are
independent and the two are about equally often bad, so

    dispersion = Var(d) / mean(b + c)

is near 1, and (buckets - 1) times it is near chi-squared with buckets - 1 degrees of freedom: the index of dispersion
(Fisher, "Statistical Methods for Research Workers", 1925; Cox & Lewis, 1966), applied to a difference of counts.
"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from multishadow_server.core.statistics.betting import Floats

FEWEST_BUCKETS = 10
FEWEST_DISCORDANT = 30
LARGEST_USUAL = 1.5
# A ratio alone is noise while buckets are few: ten independent ones exceed 1.5 one time in seven.
CHANCE = 0.001


def dispersion(only_first: Floats, only_second: Floats) -> float | None:
    """Var(b - c) / mean(b + c) over time buckets; None while there is too little to say.

    Args:
        only_first: b by bucket, shape (buckets,).
        only_second: c likewise.
    """
    discordant = only_first + only_second
    if len(discordant) < FEWEST_BUCKETS or discordant.sum() < FEWEST_DISCORDANT:
        return None
    return float(np.var(only_first - only_second, ddof=1) / discordant.mean())


def is_excessive(ratio: float, *, buckets: int) -> bool:
    """Whether a dispersion over so many buckets is large, and larger than chance makes it once in a thousand."""
    return ratio > LARGEST_USUAL and float(chdtrc(buckets - 1, (buckets - 1) * ratio)) < CHANCE
