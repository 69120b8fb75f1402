"""How much more is likely to be needed, if it goes on as it has begun."""

from __future__ import annotations

import numpy as np

from multishadow_server.core.statistics import betting, sequences
from multishadow_server.core.statistics.bands import band_of
from multishadow_server.core.statistics.betting import Floats
from multishadow_server.core.statistics.evidence import log_evidence

# With fewer requests than this the present rates say too little.
FEWEST = 100
GROWTHS = 2.0 ** np.arange(11)
FINE_GROWTHS = 2.0 ** np.arange(0, 10.25, 0.25)


def requests_needed(
    *, only_first: Floats, only_second: Floats, neither_or_both: Floats, log_threshold: float, margin: float
) -> list[int | None]:
    """Further requests until each pair would be proven different, or equivalent, at its present rates.

    Args:
        only_first: counts of requests, shape (pairs,), of which only the first was bad.
        only_second: of which only the second was.
        neither_or_both: the rest.
        log_threshold: ln of the evidence that decides a pair.
        margin: half-width of equivalence.

    Returns:
        For each pair, a rough number (two digits); None when it has too few requests to tell, or would need more than
        a thousand times as many.

    Log evidence grows nearly in proportion to the counts, so it is computed at doublings and interpolated.
    """
    b, c, rest = (np.multiply.outer(GROWTHS, count) for count in (only_first, only_second, neither_or_both))
    different = np.maximum(log_evidence(b, c), log_evidence(c, b))
    # Equivalent: neither end of the interval has left the margin, that is, both -margin and +margin are refuted.
    equivalent = np.minimum(
        betting.log_wealth(-margin, plus=b, minus=c, zero=rest),
        betting.log_wealth(-margin, plus=c, minus=b, zero=rest),
    )
    curves = np.maximum(different, equivalent)
    n = only_first + only_second + neither_or_both
    return [_further(int(n[pair]), curves[:, pair], log_threshold) for pair in range(len(n))]


def comparisons_needed(*, bad: float, n: float, log_threshold: float) -> int | None:
    """Further comparisons until the interval of a rate would lie in one band, at its present rate.

    Args:
        bad: how many of the comparisons were bad.
        n: comparisons that count.
        log_threshold: as for `sequences.rate`.

    Returns:
        As `requests_needed`.
    """
    lower, upper = sequences.rate(bad=FINE_GROWTHS * bad, n=FINE_GROWTHS * n, log_threshold=log_threshold)
    if n < FEWEST:
        return None
    for growth, low, high in zip(FINE_GROWTHS.tolist(), lower.tolist(), upper.tolist(), strict=True):
        if band_of(low) == band_of(high):
            return _two_digits(n * (growth - 1))
    return None


def _further(n: int, curve: Floats, log_threshold: float) -> int | None:
    reached = np.flatnonzero(curve >= log_threshold)
    if n < FEWEST or not len(reached):
        return None
    at = int(reached[0])
    if at == 0:
        return 0
    share = (log_threshold - curve[at - 1]) / (curve[at] - curve[at - 1])
    growth = GROWTHS[at - 1] + share * (GROWTHS[at] - GROWTHS[at - 1])
    return _two_digits(n * (growth - 1))


def _two_digits(value: float) -> int:
    digits = max(0, len(str(int(value))) - 2)
    return int(-(-value // 10**digits) * 10**digits)
