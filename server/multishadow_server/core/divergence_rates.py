"""The intervals of the candidates' divergence rates.

They are running: what is proven of a rate stays proven as comparisons arrive, as long as the rate stays what it was.
Where the share so far lies outside the running interval, the rate has moved, and the interval of all counts together
takes its place: a proof from before a change must not vouch for what came after it. Bands and gates read the interval
that is shown, so that none of them can disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multishadow_server.core import rank_basis
from multishadow_server.core.rollup import Tables
from multishadow_server.core.statistics import sequences
from multishadow_server.core.statistics.betting import Floats

# Of many buckets, looks at so many per doubling of their number; which ones never changes as buckets are added.
LOOKS_PER_DOUBLING = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergenceRates:
    """Intervals of k candidates, in the epoch's order.

    Args:
        lower: bounds, joint over all candidates, shape (k,).
        upper: likewise.
        moved: whether the rate has left what was proven of it before, shape (k,).
    """

    lower: Floats
    upper: Floats
    moved: NDArray[np.bool_]


def running(
    buckets: Sequence[Tables], versions: Sequence[str], *, bad: Floats, n: Floats, log_threshold: float
) -> DivergenceRates:
    """Look back on the ends of the time buckets, and on the present.

    Args:
        buckets: outcomes by time bucket, oldest first; none: the present alone.
        versions: the candidates.
        bad: the present counts, shape (k,).
        n: comparisons that count, likewise.
        log_threshold: as for `sequences.rate`.
    """
    by_bucket: Floats = np.array([rank_basis.divergence(tables, versions) for tables in buckets])
    so_far = np.cumsum(by_bucket.reshape(len(buckets), 2, len(versions)), axis=0)[looks(len(buckets))]
    lower, upper = sequences.running_rate(
        bad=np.vstack([so_far[:, 0], bad]), n=np.vstack([so_far[:, 1], n]), log_threshold=log_threshold
    )
    now_lower, now_upper = sequences.rate(bad=bad, n=n, log_threshold=log_threshold)
    share = bad / np.maximum(n, 1)
    moved = (n > 0) & ((share < lower[-1]) | (share > upper[-1]))
    return DivergenceRates(
        lower=np.where(moved, now_lower, lower[-1]), upper=np.where(moved, now_upper, upper[-1]), moved=moved
    )


def looks(buckets: int) -> Sequence[int]:
    """Places of the buckets whose ends are looked at, of so many: all at first, then fewer and fewer."""
    doublings = [max(1, 2 ** (end.bit_length() - 1) // LOOKS_PER_DOUBLING) for end in range(1, buckets + 1)]
    return [end - 1 for end, every in enumerate(doublings, start=1) if end % every == 0]
