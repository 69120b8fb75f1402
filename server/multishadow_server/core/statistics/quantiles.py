"""Bounds of a quantile of latencies from their histogram, valid at every look.

At each edge of a bin, N of n latencies lie at or below it. Were the edge the quantile, each would lie there with
probability 0.99, and

    E = B(19 + N, 1 + n - N) / (B(19, 1) .99^N .01^(n-N))

would be an e-process. Few latencies below a refuted edge: the quantile is above it; many: below. Counts at lower edges
are smaller still, so a wrong bound needs the one edge at the quantile itself to be wrongly refuted: no split of α over
edges. (Confidence sequences of quantiles: Howard & Ramdas, "Sequential estimation of quantiles", 2022.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import betaln, xlogy

from multishadow_server.core import latency
from multishadow_server.core.statistics.betting import Floats

LEVEL = 0.99
_PRIOR = (19.0, 1.0)


def p99(levels: Mapping[str, int], *, log_threshold: float) -> tuple[float, float]:
    """Interval for the 99th percentile of latencies, in seconds.

    Args:
        levels: count by bin of `core.latency`; timeouts are longer than every edge.
        log_threshold: ln of the evidence that refutes an edge, ln(2/α) for a two-sided level α.

    Returns:
        Lower and upper bound: 0 and inf where nothing is proven; a lower bound of inf when more than 1 % are proven
        to time out.
    """
    bins = sorted((float(level), count) for level, count in levels.items() if count)
    n = sum(count for _, count in bins)
    finite = [(edge, count) for edge, count in bins if math.isfinite(edge)]
    below = np.cumsum([0, *(count for _, count in finite)]).astype(float)
    refuted = log_evidence(below, float(n)) >= log_threshold
    low, high = refuted & (below < LEVEL * n), refuted & (below > LEVEL * n)
    # Between two occupied bins every edge has the same count: the last of them begins the next bin.
    begins = [*(edge for edge, _ in finite), math.inf]
    ends = [0.0, *(edge + 1 for edge, _ in finite)]
    lower = max((_seconds(begins[place]) for place in np.flatnonzero(low)), default=0.0)
    upper = min((_seconds(ends[place]) for place in np.flatnonzero(high)), default=math.inf)
    return lower, upper


def log_evidence(below: Floats, n: float) -> Floats:
    """Ln E that an edge is not the 99th percentile, elementwise, with `below` of n latencies at or below it."""
    above = n - below
    evidence: Floats = (
        betaln(_PRIOR[0] + below, _PRIOR[1] + above) - betaln(*_PRIOR) - xlogy(below, LEVEL) - xlogy(above, 1 - LEVEL)
    )
    return evidence


def _seconds(edge: float) -> float:
    return math.exp(edge * latency.LOG_WIDTH) * latency.SHORTEST
