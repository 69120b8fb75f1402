"""What repeated looking does: seeded simulations of whole experiments."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray

from multishadow_server.core.statistics import ranking, sequences
from multishadow_server.core.statistics.evidence import log_evidence

ALPHA = 0.05
LOOK_EVERY = 500


def experiments(rates: list[float], *, runs: int, looks: int, seed: int) -> NDArray[np.float64]:
    """Only-i-bad counts at each look, shape (runs, looks, k, k), of candidates that fail independently."""
    statuses = np.array(list(product([0, 1], repeat=len(rates))))
    chances = np.where(statuses == 1, rates, 1 - np.array(rates)).prod(axis=1)
    rng = np.random.default_rng(seed)
    seen = rng.multinomial(LOOK_EVERY, chances, size=(runs, looks)).cumsum(axis=1)
    only = np.zeros((runs, looks, len(rates), len(rates)))
    for i, j in permutations(range(len(rates)), 2):
        only[:, :, i, j] = seen @ ((statuses[:, i] == 1) & (statuses[:, j] == 0))
    return only


def test_of_equal_candidates_hardly_any_is_ever_called_worse_however_often_one_looks() -> None:
    only = experiments([0.03, 0.03, 0.03], runs=2000, looks=100, seed=20)
    worse = log_evidence(only, only.swapaxes(2, 3)) >= np.log(ranking.pair_threshold(3, ALPHA))
    false_claims = worse.any(axis=(1, 2, 3)).mean()
    assert false_claims <= 0.03

    # The same experiments mislead a test that is valid for one look only: this test can fail.
    b = np.stack([only[:, :, i, j] for i, j in combinations(range(3), 2)])
    c = np.stack([only[:, :, j, i] for i, j in combinations(range(3), 2)])
    naive = np.abs(b - c) > 1.96 * np.sqrt(np.maximum(b + c, 1))
    assert naive.any(axis=(0, 2)).mean() > 0.5


def test_the_best_candidate_is_hardly_ever_dropped_from_the_best_set() -> None:
    only = experiments([0.03, 0.03], runs=1000, looks=40, seed=21)
    logs = log_evidence(only, only.swapaxes(2, 3))
    kept = np.array([[ranking.best_set(look, alpha=ALPHA)[0] for look in run] for run in logs])
    assert (~kept).any(axis=1).mean() <= ALPHA


def test_a_rate_is_hardly_ever_outside_its_sequence_however_often_one_looks() -> None:
    rng = np.random.default_rng(22)
    n = np.arange(1, 101.0) * LOOK_EVERY
    bad = rng.binomial(LOOK_EVERY, 0.03, size=(1000, 100)).cumsum(axis=1)
    lower, upper = sequences.rate(bad=bad, n=np.broadcast_to(n, bad.shape), log_threshold=np.log(1 / ALPHA))
    missed = ((lower > 0.03) | (upper < 0.03)).any(axis=1).mean()
    assert missed <= ALPHA


def test_a_real_difference_is_proven_within_the_promised_number_of_requests() -> None:
    for other, promised in ((0.05, 3_000), (0.04, 8_500)):
        only = experiments([0.03, other, other], runs=400, looks=60, seed=23)
        proven = log_evidence(only[:, :, 1, 0], only[:, :, 0, 1]) >= np.log(ranking.pair_threshold(3, ALPHA))
        first = np.where(proven.any(axis=1), (proven.argmax(axis=1) + 1) * LOOK_EVERY, np.inf)
        assert np.median(first) <= promised
