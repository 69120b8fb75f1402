"""Evidence that one of two candidates diverges more often, from the comparisons on which they differ.

With b = only i bad, c = only j bad, M = b + c and a = 10:

    ln e(i>j) = ln 2 + M ln 2 + ln B(a+b, a+c) - ln B(a, a) + ln I½(a+c, a+b)

an e-process under "i is bad at most as often as j": the wealth of `betting` at m = 0, in closed form.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaln

from multishadow_server.core.statistics import betting
from multishadow_server.core.statistics.betting import PRIOR, Floats

# Beyond these the closed form loses digits (M ln 2 cancels) or underflows; the integral does neither.
LARGEST_CLOSED = 1e6
SMALLEST_TAIL = 1e-290


def log_evidence(only_first: Floats, only_second: Floats) -> Floats:
    """Compute ln e(first > second), elementwise: evidence that the first is bad more often than the second.

    Args:
        only_first: on how many requests only the first was bad; any shape but a scalar's.
        only_second: on how many only the second was; the same shape.
    """
    b, c = only_first, only_second
    tail = betainc(PRIOR + c, PRIOR + b, 0.5)
    closed = (tail > SMALLEST_TAIL) & (b + c < LARGEST_CLOSED)
    constant = np.log(2) - betaln(PRIOR, PRIOR)
    logs: Floats = (
        constant + (b + c) * np.log(2) + betaln(PRIOR + b, PRIOR + c) + np.log(np.maximum(tail, SMALLEST_TAIL))
    )
    if not closed.all():
        logs[~closed] = betting.log_wealth(0.0, plus=b[~closed], minus=c[~closed], zero=0.0)
    return logs


def log_two_sided(log_first_worse: Floats, log_second_worse: Floats) -> Floats:
    """Log of the mean of both directions' evidence: that the two differ at all."""
    mean: Floats = np.logaddexp(log_first_worse, log_second_worse) - np.log(2)
    return mean


def anytime_p(log_e: Floats, *, family: int = 1) -> Floats:
    """min(1, family/e): a p-value that holds however often somebody looks, adjusted for a family of tests."""
    p: Floats = np.exp(np.minimum(0.0, np.log(family) - log_e))
    return p
