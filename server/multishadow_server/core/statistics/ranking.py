"""Ranks of k candidates, from the evidence of all pairs.

Evidence comes as a matrix of shape (k, k): row i, column j holds ln e(i>j), evidence that i diverges more often than j;
the diagonal is not read. Claims at the threshold k(k-1)/α hold jointly, at all times, with probability 1 - α.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from multishadow_server.core.statistics.betting import Floats


class Verdict(StrEnum):
    """The first of a pair, seen from the second."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


def pair_threshold(k: int, alpha: float) -> float:
    """Evidence that one direction of one pair needs: k(k-1)/α, both directions of every pair sharing α."""
    return k * (k - 1) / alpha


def rank_sets(log_worse: Floats, *, log_threshold: float) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Best and worst rank that the evidence leaves to each candidate, shapes (k,), counting from 1."""
    worse = (log_worse >= log_threshold) & ~np.eye(len(log_worse), dtype=bool)
    return 1 + worse.sum(axis=1), len(worse) - worse.sum(axis=0)


def best_set(log_worse: Floats, *, alpha: float) -> NDArray[np.bool_]:
    """Who may still be the best, shape (k,); the truly best one is among them, at all times, with probability 1 - α.

    Candidate i is dropped when the mean over j of e(i>j) reaches 1/α: under "i is the best" each of them is an
    e-process, and so is their mean. Only one candidate need be protected, so this decides sooner than all pairs do.
    """
    k = len(log_worse)
    if k <= 1:
        return np.ones(k, dtype=bool)
    others = np.where(np.eye(k, dtype=bool), -np.inf, log_worse)
    kept: NDArray[np.bool_] = logsumexp(others, axis=1) - np.log(k - 1) < -np.log(alpha)
    return kept


def verdicts(
    *, first_worse: Floats, second_worse: Floats, log_threshold: float, lower: Floats, upper: Floats, margin: float
) -> list[Verdict]:
    """What is proven of each pair.

    Args:
        first_worse: ln e(first > second), shape (pairs,).
        second_worse: ln e(second > first).
        log_threshold: ln of `pair_threshold`.
        lower: simultaneous bound of (rate of the first) - (rate of the second).
        upper: likewise.
        margin: differences inside ±margin do not matter; a proven difference is named even when it is that small.
    """
    better, worse = second_worse >= log_threshold, first_worse >= log_threshold
    equivalent = (-margin < lower) & (upper < margin)
    return [_verdict(*proven) for proven in zip(better, worse, equivalent, strict=True)]


def _verdict(better: np.bool_, worse: np.bool_, equivalent: np.bool_) -> Verdict:
    if better:
        return Verdict.BETTER
    if worse:
        return Verdict.WORSE
    return Verdict.EQUIVALENT if equivalent else Verdict.UNDECIDED
