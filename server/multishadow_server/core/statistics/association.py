"""Whether requests of one kind diverge more often than the rest: evidence, false discoveries, correlations.

Evidence is an e-process over blocks (time buckets) of two groups. With rates p of the group and q of the rest that were
chosen before the block, and r = (n p + m q)/(n + m) for its n and m requests, the likelihood ratio

    (p/r)^b ((1-p)/(1-r))^(n-b) · (q/r)^c ((1-q)/(1-r))^(m-c)

has mean at most 1 whenever both groups are bad equally often, however often that is, and it may be another rate in
every block (Turner, Ly & Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional
stopping", 2024). So ratios of blocks multiply.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from multishadow_server.core.statistics.betting import Floats

# Requests' worth of belief that a group is like all: a first few diverging ones are no reason to bet much.
SHRINKAGE = 20.0
# Where every cell of the table is expected to hold so many, the normal tail is within 5 % of the exact one out to 1e-6;
# the exact one takes longer with the counts.
LARGE_CELL = 100_000.0


def log_evidence(bad: Floats, n: Floats, *, rest_bad: Floats, rest_n: Floats) -> Floats:
    """Ln of the evidence that a group's rate is not that of the rest, shape (groups,).

    Args:
        bad: of the group, by block and group, shape (blocks, groups), blocks in the order of time and all finished.
        n: requests of the group.
        rest_bad: of the rest.
        rest_n: requests of the rest.
    """
    b, n0, c, m0 = (_before(counts) for counts in (bad, n, rest_bad, rest_n))
    all_rate = (b + c + 0.5) / (n0 + m0 + 1)
    p = (b + SHRINKAGE * all_rate) / (n0 + SHRINKAGE)
    q = (c + SHRINKAGE * all_rate) / (m0 + SHRINKAGE)
    r = (n * p + rest_n * q) / np.maximum(n + rest_n, 1)
    r = np.where(n + rest_n > 0, r, p)
    ratios = (
        bad * np.log(p / r)
        + (n - bad) * (np.log1p(-p) - np.log1p(-r))
        + rest_bad * np.log(q / r)
        + (rest_n - rest_bad) * (np.log1p(-q) - np.log1p(-r))
    )
    total: Floats = ratios.sum(axis=0)
    return total


def _before(counts: Floats) -> Floats:
    """Sums over the blocks before each, shape as `counts`."""
    return np.cumsum(counts, axis=0) - counts


def e_bh(log_e: Floats, *, alpha: float) -> NDArray[np.bool_]:
    """Which discoveries to make so that at most a share α of them is false, whatever depends on what.

    The e-BH procedure (Wang & Ramdas, "False discovery rate control with e-values", 2022): the k largest of K, for the
    largest k whose k-th largest e is at least K/(α k).
    """
    k = len(log_e)
    order = np.argsort(-log_e, kind="stable")
    enough = log_e[order] >= np.log(k / alpha) - np.log(np.arange(1, k + 1)) if k else np.zeros(0, dtype=bool)
    largest = int(np.flatnonzero(enough)[-1]) + 1 if enough.any() else 0
    found = np.zeros(k, dtype=bool)
    found[order[:largest]] = True
    return found


def bh(p: Floats) -> Floats:
    """Adjusted p-values of Benjamini & Hochberg (1995), shape as `p`."""
    k = len(p)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * k / np.arange(1, k + 1)
    adjusted = np.empty(k)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return adjusted


def exact_p(bad: Floats, n: Floats, *, rest_bad: Floats, rest_n: Floats) -> Floats:
    """Fisher's exact test, two-sided by doubling the smaller tail, shape (groups,); 1 where a group is empty.

    Valid for one look only. Large tables use the normal tail with Yates's correction, which costs the same at any size.
    """
    # Imported where it is used: routers and workers would spend half a second on it at every start, for nothing.
    from scipy.stats import hypergeom  # noqa: PLC0415

    total, all_bad = n + rest_n, bad + rest_bad
    smallest = np.minimum(n, rest_n) * np.minimum(all_bad, total - all_bad) / np.maximum(total, 1)
    p = np.ones(len(n))
    small = (n > 0) & (rest_n > 0) & (smallest < LARGE_CELL)
    large = (n > 0) & (rest_n > 0) & ~small
    drawn = total[small], all_bad[small], n[small]
    p[small] = 2 * np.minimum(hypergeom.sf(bad[small] - 1, *drawn), hypergeom.cdf(bad[small], *drawn))
    rate = (all_bad / np.maximum(total, 1))[large]
    spread = np.sqrt(n[large] * rest_n[large] / (total[large] - 1) * rate * (1 - rate))
    p[large] = 2 * ndtr(-np.maximum(np.abs(bad[large] - n[large] * rate) - 0.5, 0) / spread)
    return np.minimum(p, 1.0)


def rank_correlation(bad: Floats, n: Floats) -> tuple[float, float]:
    """Spearman's correlation of an ordered level with being bad, and its standard error on Fisher's scale.

    Args:
        bad: by level, in the levels' order, shape (levels,).
        n: requests by level.

    Returns:
        ρ with mid-ranks for ties, 0 where nothing varies; and sqrt((1 + ρ²/2)/(n - 3)) (Bonett & Wright, 2000), the
        standard error of artanh ρ; infinite for fewer than four requests.
    """
    total, all_bad = float(n.sum()), float(bad.sum())
    middle = np.cumsum(n) - n / 2
    centred = middle - total / 2
    of_levels = float((n * centred**2).sum())
    of_bad = all_bad * (total - all_bad) / max(total, 1)
    varies = of_levels > 0 and of_bad > 0
    rho = float((bad * centred).sum() / np.sqrt(of_levels * of_bad)) if varies else 0.0
    error = np.sqrt((1 + rho**2 / 2) / (total - 3)) if total > 3 else np.inf
    return rho, float(error)
