"""Segments against the rest: evidence that holds, discoveries that are mostly true, exact tests and correlations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from multishadow_server.core.statistics import association
from multishadow_server.core.statistics.betting import Floats

counts = st.integers(0, 400)


def blocks(*rows: tuple[int, int, int, int]) -> tuple[Floats, Floats, Floats, Floats]:
    """Blocks of one group: (bad, n, rest's bad, rest's n)."""
    bad, n, rest_bad, rest_n = (np.array(column, dtype=float)[:, None] for column in zip(*rows, strict=True))
    return bad, n, rest_bad, rest_n


def evidence(*rows: tuple[int, int, int, int]) -> float:
    bad, n, rest_bad, rest_n = blocks(*rows)
    (found,) = association.log_evidence(bad, n, rest_bad=rest_bad, rest_n=rest_n)
    return float(found)


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_a_blocks_ratio_has_mean_one_at_most_when_both_groups_are_bad_equally_often(rate: float) -> None:
    before = (9, 20, 3, 60)
    n, m = 7, 12
    mean = sum(
        stats.binom.pmf(b, n, rate) * stats.binom.pmf(c, m, rate) * np.exp(evidence(before, (b, n, c, m)))
        for b in range(n + 1)
        for c in range(m + 1)
    )
    assert 0 < mean <= 1 + 1e-12


def test_a_ratio_is_the_likelihoods_at_rates_of_earlier_blocks() -> None:
    shrunk, all_rate = association.SHRINKAGE, (8 + 2 + 0.5) / (40 + 160 + 1)
    p = (8 + shrunk * all_rate) / (40 + shrunk)
    q = (2 + shrunk * all_rate) / (160 + shrunk)
    r = (10 * p + 30 * q) / 40
    bernoulli = stats.bernoulli.logpmf
    expected = 3 * bernoulli(1, p) + 7 * bernoulli(0, p) + bernoulli(1, q) + 29 * bernoulli(0, q)
    expected -= 4 * bernoulli(1, r) + 36 * bernoulli(0, r)
    assert evidence((8, 40, 2, 160), (3, 10, 1, 30)) == pytest.approx(expected, abs=1e-12)


def test_the_first_block_and_a_group_that_is_everything_are_no_evidence() -> None:
    assert evidence((50, 60, 0, 900)) == pytest.approx(0, abs=1e-12)
    assert evidence((5, 60, 0, 0), (9, 60, 0, 0), (0, 60, 0, 0)) == pytest.approx(0, abs=1e-12)
    assert evidence((0, 0, 5, 60), (0, 0, 9, 60)) == pytest.approx(0, abs=1e-12)


def test_whoever_looks_after_every_block_is_hardly_ever_misled_though_the_common_rate_drifts() -> None:
    generator = np.random.default_rng(5)
    hours, worlds = 60, 4_000
    rate = 0.05 + 0.04 * np.sin(np.arange(hours))[:, None]
    n, rest_n = (
        generator.poisson(30, (hours, worlds)).astype(float),
        generator.poisson(90, (hours, worlds)).astype(float),
    )
    bad, rest_bad = generator.binomial(n.astype(int), rate), generator.binomial(rest_n.astype(int), rate)
    ever = np.zeros(worlds, dtype=bool)
    for hour in range(1, hours + 1):
        seen = [part[:hour].astype(float) for part in (bad, n, rest_bad, rest_n)]
        ever |= association.log_evidence(seen[0], seen[1], rest_bad=seen[2], rest_n=seen[3]) >= np.log(20)
    assert ever.mean() <= 0.05


def test_a_group_that_is_bad_twice_as_often_is_found_within_days() -> None:
    generator = np.random.default_rng(6)
    n, rest_n = np.full((48, 200), 100.0), np.full((48, 200), 300.0)
    bad, rest_bad = generator.binomial(100, 0.06, (48, 200)), generator.binomial(300, 0.03, (48, 200))
    found = association.log_evidence(bad.astype(float), n, rest_bad=rest_bad.astype(float), rest_n=rest_n)
    assert np.mean(found >= np.log(1_000)) > 0.95


def test_e_bh_takes_the_largest_that_are_large_enough_together() -> None:
    e = np.array([1.0, 90.0, 39.0, 3.0])
    # 4/(.05 · 1) = 80, 4/(.05 · 2) = 40: the second of two is not enough.
    assert association.e_bh(np.log(e), alpha=0.05).tolist() == [False, True, False, False]
    e[2] = 41
    assert association.e_bh(np.log(e), alpha=0.05).tolist() == [False, True, True, False]
    assert association.e_bh(np.log([70.0, 1.0, 1.0, 1.0]), alpha=0.05).tolist() == [False] * 4
    assert association.e_bh(np.zeros(0), alpha=0.05).tolist() == []


@given(st.lists(st.floats(0, 1), max_size=40))
def test_bh_is_scipys(p: list[float]) -> None:
    ours = association.bh(np.array(p))
    if p:
        assert ours == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


@given(counts, counts, counts, counts)
def test_the_exact_test_doubles_fishers_smaller_tail(bad: int, ok: int, rest_bad: int, rest_ok: int) -> None:
    (p,) = association.exact_p(
        np.array([float(bad)]),
        np.array([float(bad + ok)]),
        rest_bad=np.array([float(rest_bad)]),
        rest_n=np.array([float(rest_bad + rest_ok)]),
    )
    if bad + ok == 0 or rest_bad + rest_ok == 0:
        assert p == 1
        return
    table = np.array([[bad, ok], [rest_bad, rest_ok]])
    tails = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    assert p == pytest.approx(min(1, 2 * min(tails)), rel=1e-9, abs=1e-300)


def test_large_tables_are_as_good_as_exact() -> None:
    n, rest_n, rest_bad = (np.array([count]) for count in (4e6, 16e6, 480_000.0))
    for bad in (120_000.0, 120_700.0, 121_800.0):
        (p,) = association.exact_p(np.array([bad]), n, rest_bad=rest_bad, rest_n=rest_n)
        exact = 2 * stats.hypergeom.sf(bad - 1, 20_000_000, 480_000 + bad, 4_000_000)
        assert p == pytest.approx(min(1, exact), rel=0.05)


def test_a_rank_correlation_is_spearmans_of_the_comparisons_behind_the_counts() -> None:
    bad, n = np.array([2.0, 5.0, 9.0, 4.0]), np.array([40.0, 30.0, 30.0, 8.0])
    levels = np.repeat(np.arange(4), n.astype(int))
    outcomes = np.concatenate([[1] * int(b) + [0] * int(m - b) for b, m in zip(bad, n, strict=True)])
    rho, error = association.rank_correlation(bad, n)
    assert rho == pytest.approx(stats.spearmanr(levels, outcomes).statistic, abs=1e-12)
    assert error == pytest.approx(np.sqrt((1 + rho**2 / 2) / (108 - 3)))


def test_what_does_not_vary_is_not_correlated() -> None:
    assert association.rank_correlation(np.array([0.0, 0.0]), np.array([5.0, 7.0]))[0] == 0
    assert association.rank_correlation(np.array([3.0]), np.array([9.0]))[0] == 0
    assert association.rank_correlation(np.array([1.0]), np.array([2.0])) == (0, np.inf)
