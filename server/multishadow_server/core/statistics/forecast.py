"""How many more requests a pair is likely to need, if it goes on as it has begun."""

from __future__ import annotations

import numpy as np

from multishadow_server.core.statistics import betting
from multishadow_server.core.statistics.betting import Floats
from multishadow_server.core.statistics.evidence import log_evidence

# With fewer requests than this the present rates say too little.
FEWEST = 100
GROWTHS = 2.0 ** np.arange(11)


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
