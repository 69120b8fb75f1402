"""Evidence that one of two candidates diverges more often."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from multishadow_server.core.statistics.betting import log_wealth
from multishadow_server.core.statistics.evidence import anytime_p, log_evidence, log_two_sided

counts = st.one_of(st.integers(0, 500), st.integers(0, 10**9))


def evidence(b: float, c: float) -> float:
    return float(log_evidence(np.array([float(b)]), np.array([float(c)]))[0])


def test_the_published_check_values_hold() -> None:
    first, second = evidence(60, 30), evidence(30, 60)
    assert first == pytest.approx(4.010706167966462, abs=1e-9)
    two_sided = log_two_sided(np.array([first]), np.array([second]))
    assert float(two_sided[0]) == pytest.approx(3.319487900657796, abs=1e-9)


@pytest.mark.parametrize("discordant", [1, 2, 17, 200])
def test_evidence_is_expected_to_stay_one_when_both_are_bad_equally_often(discordant: int) -> None:
    b = np.arange(discordant + 1.0)
    expected = np.sum(binom.pmf(b, discordant, 0.5) * np.exp(log_evidence(b, discordant - b)))
    assert float(expected) == pytest.approx(1, abs=1e-10)


@given(counts, counts)
def test_the_closed_form_and_the_integral_are_the_same_number(b: int, c: int) -> None:
    integral = float(log_wealth(0.0, plus=b, minus=c, zero=0))
    assert evidence(b, c) == pytest.approx(integral, abs=1e-8, rel=1e-12)


@given(counts, counts)
def test_one_more_bad_answer_of_the_first_never_lowers_the_evidence_against_it(b: int, c: int) -> None:
    assert evidence(b + 1, c) >= evidence(b, c) - 1e-9


def test_no_discordant_request_is_no_evidence() -> None:
    assert evidence(0, 0) == pytest.approx(0, abs=1e-12)


def test_overwhelming_evidence_stays_finite() -> None:
    assert math.isfinite(evidence(10**9, 0))
    assert math.isfinite(evidence(0, 10**9))
    assert float(anytime_p(np.array([evidence(10**9, 0)]))[0]) == 0.0


def test_an_adjusted_p_is_the_family_times_larger_and_at_most_one() -> None:
    logs = np.log(np.array([1000.0, 4.0, 0.5]))
    assert anytime_p(logs).tolist() == pytest.approx([0.001, 0.25, 1.0])
    assert anytime_p(logs, family=6).tolist() == pytest.approx([0.006, 1.0, 1.0])
