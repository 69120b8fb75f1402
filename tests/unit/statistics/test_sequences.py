"""Confidence sequences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import binom

from multishadow_server.core.statistics import sequences
from multishadow_server.core.statistics.betting import log_wealth
from multishadow_server.core.statistics.evidence import log_evidence

counts = st.one_of(st.integers(0, 300), st.integers(0, 10**9))
thresholds = st.sampled_from([2 / 0.05, 6 / 0.05, 90 / 0.05, 2 / 1e-6])


def paired(b: float, c: float, rest: float, threshold: float = 40) -> tuple[float, float]:
    lower, upper = sequences.paired(
        only_first=np.array([b]),
        only_second=np.array([c]),
        neither_or_both=np.array([rest]),
        log_threshold=math.log(threshold),
    )
    return float(lower[0]), float(upper[0])


def rate(bad: float, n: float, threshold: float = 60) -> tuple[float, float]:
    lower, upper = sequences.rate(bad=np.array([float(bad)]), n=np.array([float(n)]), log_threshold=math.log(threshold))
    return float(lower[0]), float(upper[0])


def log_rate_evidence(p: float, bad: int, n: int) -> float:
    mixture = betaln(0.5 + bad, 9.5 + n - bad) - betaln(0.5, 9.5)
    return float(mixture - bad * math.log(p) - (n - bad) * math.log1p(-p))


def test_the_published_check_values_of_the_paired_interval_hold() -> None:
    lower, upper = paired(400, 300, 9300)
    assert lower == pytest.approx(0.00171164445, abs=1e-10)
    assert upper == pytest.approx(0.01839242618, abs=1e-10)
    assert paired(0, 0, 1000) == pytest.approx((-0.01180121253, 0.01180121253), abs=1e-10)


@pytest.mark.parametrize(("b", "c", "rest"), [(400, 300, 9300), (3, 0, 40), (0, 7, 5), (1, 1, 1), (90, 10, 0)])
def test_the_paired_bounds_are_where_a_bracketing_solver_finds_them(b: int, c: int, rest: int) -> None:
    def excess(m: float, plus: int, minus: int) -> float:
        return float(log_wealth(m, plus=plus, minus=minus, zero=rest)) - math.log(40)

    mean = (b - c) / (b + c + rest)
    lower, upper = paired(b, c, rest)
    if b + rest:
        assert lower == pytest.approx(brentq(excess, -1 + 1e-12, mean, args=(b, c), xtol=1e-15), abs=1e-11)
    if c + rest:
        assert upper == pytest.approx(-brentq(excess, -1 + 1e-12, -mean, args=(c, b), xtol=1e-15), abs=1e-11)


def root(b: int, c: int, rest: int, log_threshold: float) -> float:
    plus, minus, zero = (np.array([float(count)]) for count in (b, c, rest))
    return float(sequences.paired_root(plus, minus, zero, log_threshold)[0])


@given(counts, counts, counts, thresholds)
def test_the_integral_alone_is_on_the_side_of_zero_that_the_closed_form_says(
    b: int, c: int, rest: int, threshold: float
) -> None:
    # What decides the side is one number found twice: as a root of the integral, which knows nothing of the test, and
    # by the closed form. They may differ where the evidence is the threshold's to within rounding, and nowhere else.
    evidence = float(log_evidence(np.array([float(b)]), np.array([float(c)]))[0])
    bound = root(b, c, rest, math.log(threshold))
    if abs(evidence - math.log(threshold)) > 1e-9 + 1e-14 * (b + c + rest):
        assert (bound >= 0) == (evidence >= math.log(threshold))
    # So putting the interval on the test's side moves it by rounding at most.
    assert paired(b, c, rest, threshold)[0] == pytest.approx(bound, abs=1e-12)


@pytest.mark.parametrize(("b", "c", "rest"), [(60, 30, 1000), (7, 0, 3), (400, 300, 9300), (90_000, 88_000, 10**8)])
def test_the_integral_alone_crosses_zero_where_the_closed_form_reaches_the_threshold(b: int, c: int, rest: int) -> None:
    tie = float(log_evidence(np.array([float(b)]), np.array([float(c)]))[0])
    assert root(b, c, rest, tie) == pytest.approx(0, abs=1e-12)
    assert root(b, c, rest, tie - 1e-3) > 0 > root(b, c, rest, tie + 1e-3)


@given(counts, counts, counts, thresholds)
def test_test_and_interval_never_disagree(b: int, c: int, rest: int, threshold: float) -> None:
    lower, upper = paired(b, c, rest, threshold)
    first_worse = float(log_evidence(np.array([float(b)]), np.array([float(c)]))[0])
    second_worse = float(log_evidence(np.array([float(c)]), np.array([float(b)]))[0])
    assert (lower >= 0) == (first_worse >= math.log(threshold))
    assert (upper <= 0) == (second_worse >= math.log(threshold))


@pytest.mark.parametrize(("b", "c", "rest"), [(60, 30, 1000), (7, 0, 3), (400, 300, 9300), (90_000, 88_000, 10**8)])
def test_a_tie_of_evidence_and_threshold_goes_to_the_test(b: int, c: int, rest: int) -> None:
    counts = {"only_first": np.array([b]), "only_second": np.array([c]), "neither_or_both": np.array([rest])}
    tie = float(log_evidence(np.array([float(b)]), np.array([float(c)]))[0])
    proven, _ = sequences.paired(**counts, log_threshold=tie)
    unproven, _ = sequences.paired(**counts, log_threshold=math.nextafter(tie, math.inf))
    assert proven[0] >= 0 > unproven[0]


@given(counts, counts, counts, thresholds)
def test_swapping_the_candidates_mirrors_the_interval(b: int, c: int, rest: int, threshold: float) -> None:
    lower, upper = paired(b, c, rest, threshold)
    assert paired(c, b, rest, threshold) == (-upper, -lower)


@given(counts, counts, counts, thresholds)
def test_the_paired_interval_holds_the_estimate_from_nothing_to_a_billion(
    b: int, c: int, rest: int, threshold: float
) -> None:
    lower, upper = paired(b, c, rest, threshold)
    estimate = (b - c) / max(1, b + c + rest)
    assert -1 <= lower <= estimate <= upper <= 1


@given(counts, counts, counts)
def test_the_wealth_at_a_bound_is_the_threshold(b: int, c: int, rest: int) -> None:
    lower, _ = paired(b, c, rest)
    if -1 + 1e-6 < lower < 1 - 1e-6:
        wealth = float(log_wealth(lower, plus=b, minus=c, zero=rest))
        # A last-digit change of m moves the wealth by its slope, up to the number of comparisons.
        assert wealth == pytest.approx(math.log(40), abs=1e-9 + 1e-14 * (b + c + rest))


def test_without_requests_any_difference_is_possible() -> None:
    assert paired(0, 0, 0) == (-1, 1)


def test_a_billion_requests_pin_a_difference_down_to_a_thousandth_of_a_point() -> None:
    lower, upper = paired(10_000_000, 10_000_000, 980_000_000)
    assert upper - lower < 4e-5


def test_zero_divergences_prove_less_than_one_percent_at_618_requests_for_three_candidates() -> None:
    assert rate(0, 617, threshold=3 / 0.05)[1] > 0.01
    assert rate(0, 618, threshold=3 / 0.05)[1] < 0.01


@given(st.data(), counts, thresholds)
def test_the_evidence_at_a_bound_of_a_rate_is_the_threshold(data: st.DataObject, n: int, threshold: float) -> None:
    bad = data.draw(st.integers(0, n))
    lower, upper = rate(bad, n, threshold)
    assert 0 <= lower <= bad / max(n, 1) <= upper <= 1
    for bound in (lower, upper):
        # Near the ends a float has no digits left for the other outcome's chance.
        if 1e-12 < bound < 1 - 1e-6:
            assert log_rate_evidence(bound, bad, n) == pytest.approx(math.log(threshold), abs=1e-5)


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("p", [0.02, 0.5, 0.97])
def test_evidence_against_the_true_rate_is_expected_to_stay_one(n: int, p: float) -> None:
    expected = sum(binom.pmf(bad, n, p) * math.exp(log_rate_evidence(p, bad, n)) for bad in range(n + 1))
    assert float(expected) == pytest.approx(1, abs=1e-10)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.one_of(st.integers(0, 300), st.integers(0, 10**8))), min_size=1),
    thresholds,
)
def test_more_evidence_never_widens_a_running_interval(hours: list[tuple[int, int]], threshold: float) -> None:
    bad = np.cumsum([[float(bad)] for bad, _ in hours], axis=0)
    n = bad + np.cumsum([[float(ok)] for _, ok in hours], axis=0)
    lower, upper = sequences.running_rate(bad=bad, n=n, log_threshold=math.log(threshold))
    assert (np.diff(lower, axis=0) >= 0).all()
    assert (np.diff(upper, axis=0) <= 0).all()
    each_lower, each_upper = sequences.rate(bad=bad, n=n, log_threshold=math.log(threshold))
    assert lower[-1] == each_lower.max()
    assert upper[-1] == each_upper.min()


def test_an_interval_that_does_not_run_widens_when_what_comes_is_worse_than_what_was() -> None:
    before, after = rate(0, 1000), rate(6, 1006)
    assert after[1] > before[1]


def test_a_rate_that_jumps_leaves_no_running_interval() -> None:
    bad, n = np.array([[0.0], [500.0]]), np.array([[1000.0], [1500.0]])
    lower, upper = sequences.running_rate(bad=bad, n=n, log_threshold=math.log(60))
    assert lower[-1] > upper[-1]


def test_without_comparisons_any_rate_is_possible() -> None:
    assert rate(0, 0) == (0, 1)


def test_nothing_but_divergences_never_proves_a_rate_of_one() -> None:
    lower, upper = rate(1000, 1000)
    assert 0.9 < lower < 1
    assert upper == 1
