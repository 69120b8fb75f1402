"""Turns that depend on each other: by requests, tests claim what is not so; by sessions, they keep their promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multishadow_server.core.statistics import ranking, sequences
from multishadow_server.core.statistics.evidence import log_evidence

ALPHA = 0.05
RATE = 0.1
TURNS = 12
SESSIONS = 2_000
LOOK_EVERY = 20


def conversations(runs: int, *, rates: tuple[float, float], seed: int) -> NDArray[np.bool_]:
    """Whether each of two candidates is bad, shape (runs, sessions, candidates, turns).

    A session goes wrong for a candidate with its rate, the candidates independently of each other, at a random turn;
    from there on, almost every turn is bad, because what was said before is part of every later question.
    """
    rng = np.random.default_rng(seed)
    shape = (runs, SESSIONS, 2)
    wrong = rng.random(shape) < rates
    first = np.where(wrong, rng.integers(0, TURNS, shape), TURNS)
    after = np.arange(TURNS) >= first[..., None]
    bad: NDArray[np.bool_] = after & (rng.random((*shape, TURNS)) < 0.9)
    return bad


def claimed(bad: NDArray[np.bool_], unit: Callable[[NDArray[np.bool_]], NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Runs in which a difference is ever claimed, looking every twenty sessions, shape (runs,)."""
    only_first, only_second = unit(bad[:, :, 0] & ~bad[:, :, 1]), unit(bad[:, :, 1] & ~bad[:, :, 0])
    b, c = (counts.cumsum(axis=1)[:, LOOK_EVERY - 1 :: LOOK_EVERY] for counts in (only_first, only_second))
    threshold = np.log(ranking.pair_threshold(2, ALPHA))
    worse = np.maximum(log_evidence(b, c), log_evidence(c, b)) >= threshold
    return np.asarray(worse.any(axis=1))


def by_request(only: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(only.sum(axis=2), dtype=float)


def by_session(only: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(only[..., 0], dtype=float)


def whole(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a session had any bad turn, in the place of a turn."""
    return np.asarray(bad.any(axis=3, keepdims=True))


def test_of_two_equal_candidates_one_is_claimed_worse_by_requests_often_and_by_sessions_hardly_ever() -> None:
    bad = conversations(400, rates=(RATE, RATE), seed=31)
    assert claimed(bad, by_request).mean() > 0.4
    assert claimed(whole(bad), by_session).mean() <= ALPHA


def test_the_interval_of_a_rate_misses_it_by_requests_often_and_by_sessions_hardly_ever() -> None:
    bad = conversations(400, rates=(RATE, RATE), seed=32)[:, :, 0]
    # Of all sessions, in expectation: the first bad turn is uniform, and later ones are bad with 90 %.
    share = RATE * 0.9 * (TURNS + 1) / 2 / TURNS
    any_bad = 1 - sum(0.1 ** (TURNS - first) for first in range(TURNS)) / TURNS

    def missed(counts: NDArray[np.float64], size: int, rate: float) -> float:
        so_far = counts.cumsum(axis=1)[:, LOOK_EVERY - 1 :: LOOK_EVERY]
        n = np.broadcast_to(size * LOOK_EVERY * np.arange(1, so_far.shape[1] + 1.0), so_far.shape)
        lower, upper = sequences.rate(bad=so_far, n=n, log_threshold=np.log(1 / ALPHA))
        return float(((lower > rate) | (upper < rate)).any(axis=1).mean())

    assert missed(bad.sum(axis=2).astype(float), TURNS, share) > 0.4
    assert missed(bad.any(axis=2).astype(float), 1, RATE * any_bad) <= ALPHA


def test_a_real_difference_is_proven_by_sessions_all_the_same() -> None:
    bad = conversations(100, rates=(RATE, 2 * RATE), seed=33)
    assert claimed(whole(bad), by_session).mean() > 0.95
