"""Whether counts came in the proportions that they should have: an alarm for faults of assignment and of storing.

With expected shares θ and counts n, a Dirichlet mixture around θ against θ itself:

    e = [B(κθ + n) / B(κθ)] / Πθⁿ,  κ = 10,000   (B: the multivariate Beta function)

Source: Lindon & Malek, "Anytime-valid inference for multinomial count data" (2022). At large counts the smallest fault
is proven, also one that matters to nobody, so an alarm needs a gap as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, xlogy

CONCENTRATION = 10_000.0
LOG_ALARM = float(np.log(1000))
SMALLEST_GAP = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class RatioCheck:
    """Counts against the shares that they should have.

    Args:
        log_evidence: ln e that the shares are others; inf when something came that has no share.
        gap: the largest relative difference of a count to its expectation.
    """

    log_evidence: float
    gap: float

    @property
    def rings(self) -> bool:
        """Whether the gap is proven, and large enough to matter."""
        return self.log_evidence >= LOG_ALARM and self.gap > SMALLEST_GAP


def check(counts: Sequence[int], weights: Sequence[float]) -> RatioCheck:
    """Compare counts with what they should be in proportion to.

    Args:
        counts: how many came, by category.
        weights: how many should come, relative to each other; none negative.
    """
    n, expected = np.array(counts, dtype=float), np.array(weights, dtype=float)
    total = n.sum()
    if not total or not expected.sum():
        return RatioCheck(log_evidence=0.0, gap=0.0)
    share = expected / expected.sum()
    possible = share > 0
    if n[~possible].any():
        return RatioCheck(log_evidence=np.inf, gap=float(n[~possible].sum() / total))
    n, share = n[possible], share[possible]
    prior = CONCENTRATION * share
    mixture = (gammaln(prior + n) - gammaln(prior)).sum() + gammaln(CONCENTRATION) - gammaln(CONCENTRATION + total)
    return RatioCheck(
        log_evidence=float(mixture - xlogy(n, share).sum()),
        gap=float(np.abs(n / (total * share) - 1).max()),
    )
