"""Ranks, best sets and verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from multishadow_server.core.statistics import ranking
from multishadow_server.core.statistics.ranking import Verdict

ALPHA = 0.05
# k(k-1)/α at k = 3
THRESHOLD = 120.0


def matrix(k: int, evidence: dict[tuple[int, int], float]) -> NDArray[np.float64]:
    logs = np.zeros((k, k))
    for place, e in evidence.items():
        logs[place] = math.log(e)
    return logs


def rank_sets(logs: NDArray[np.float64]) -> list[tuple[int, int]]:
    best, worst = ranking.rank_sets(logs, log_threshold=math.log(THRESHOLD))
    return list(zip(best.tolist(), worst.tolist(), strict=True))


def verdict(*, first_worse: float, second_worse: float, lower: float, upper: float) -> Verdict:
    (only,) = ranking.verdicts(
        first_worse=np.array([math.log(first_worse)]),
        second_worse=np.array([math.log(second_worse)]),
        log_threshold=math.log(THRESHOLD),
        lower=np.array([lower]),
        upper=np.array([upper]),
        margin=0.005,
    )
    return only


def test_three_candidates_need_evidence_of_120_at_five_percent() -> None:
    assert ranking.pair_threshold(3, ALPHA) == pytest.approx(120)


def test_without_evidence_everybody_may_have_any_rank() -> None:
    assert rank_sets(matrix(3, {})) == [(1, 3)] * 3
    assert ranking.best_set(matrix(3, {}), alpha=ALPHA).tolist() == [True] * 3


def test_a_proven_order_leaves_one_rank_each() -> None:
    proven = matrix(3, {(1, 0): 200, (2, 0): 300, (2, 1): 120.01})
    assert rank_sets(proven) == [(1, 1), (2, 2), (3, 3)]
    assert ranking.best_set(proven, alpha=ALPHA).tolist() == [True, False, False]


def test_beating_one_of_two_rules_out_one_rank_each() -> None:
    assert rank_sets(matrix(3, {(2, 0): 130})) == [(1, 2), (1, 3), (2, 3)]


def test_being_best_is_proven_sooner_than_every_pair() -> None:
    # Mean of 60 and 1 is above 20, though 60 is below the threshold of a pair.
    logs = matrix(3, {(2, 0): 60, (1, 0): 60})
    assert rank_sets(logs) == [(1, 3)] * 3
    assert ranking.best_set(logs, alpha=ALPHA).tolist() == [True, False, False]


def test_evidence_spread_over_rivals_counts_by_its_mean() -> None:
    below, above = matrix(3, {(2, 0): 38.9}), matrix(3, {(2, 0): 39.1})
    assert ranking.best_set(below, alpha=ALPHA).tolist() == [True, True, True]
    assert ranking.best_set(above, alpha=ALPHA).tolist() == [True, True, False]


def test_a_single_candidate_is_the_best_there_is() -> None:
    assert ranking.best_set(np.zeros((1, 1)), alpha=ALPHA).tolist() == [True]


@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_renaming_the_candidates_renames_their_ranks(k: int, random: object) -> None:
    seed = random.getrandbits(32)  # type: ignore[attr-defined]  # hypothesis hands out a random.Random
    rng = np.random.default_rng(seed)
    logs, order = rng.normal(0, 5, (k, k)), rng.permutation(k)
    renamed = rank_sets(logs[np.ix_(order, order)])
    assert renamed == [rank_sets(logs)[place] for place in order]
    assert (
        ranking.best_set(logs[np.ix_(order, order)], alpha=ALPHA).tolist()
        == ranking.best_set(logs, alpha=ALPHA)[order].tolist()
    )


def test_a_pair_is_better_worse_equivalent_or_undecided() -> None:
    assert verdict(first_worse=0.1, second_worse=121, lower=-0.03, upper=-0.01) is Verdict.BETTER
    assert verdict(first_worse=121, second_worse=0.1, lower=0.01, upper=0.03) is Verdict.WORSE
    assert verdict(first_worse=1, second_worse=1, lower=-0.004, upper=0.0049) is Verdict.EQUIVALENT
    assert verdict(first_worse=1, second_worse=1, lower=-0.004, upper=0.0051) is Verdict.UNDECIDED


def test_a_proven_difference_is_named_even_when_it_is_too_small_to_matter() -> None:
    assert verdict(first_worse=500, second_worse=0.1, lower=0.001, upper=0.003) is Verdict.WORSE
