"""Alarms when counts are out of proportion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import dirichlet_multinomial, multinomial

from multishadow_server.core.statistics import sample_ratio


@given(st.lists(st.integers(0, 5_000), min_size=2, max_size=4), st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_evidence_is_the_dirichlet_mixture_against_the_expected_shares(counts: list[int], weights: list[int]) -> None:
    share = np.array(weights[: len(counts)]) / sum(weights[: len(counts)])
    total = sum(counts)
    mixture = dirichlet_multinomial(1e4 * share, np.array(total)).logpmf(np.array(counts))
    expected = mixture - multinomial(total, share).logpmf(counts)
    found = sample_ratio.check(counts, weights[: len(counts)])
    assert found.log_evidence == pytest.approx(float(expected), abs=1e-6)


def test_an_alarm_needs_proof_and_a_gap_that_matters() -> None:
    assert sample_ratio.check([90_000, 100_000], [1, 1]).rings
    assert not sample_ratio.check([90, 100], [1, 1]).rings
    tiny = sample_ratio.check([99_600_000, 100_000_000], [1, 1])
    assert tiny.log_evidence > sample_ratio.LOG_ALARM
    assert not tiny.rings


def test_what_should_never_come_is_proof_at_once_and_rings_when_it_is_much() -> None:
    assert sample_ratio.check([999, 1], [1, 0]) == sample_ratio.RatioCheck(log_evidence=math.inf, gap=0.001)
    assert sample_ratio.check([900, 100], [1, 0]).rings


def test_nothing_counted_rings_nothing() -> None:
    assert not sample_ratio.check([0, 0], [1, 1]).rings
    assert not sample_ratio.check([0, 0], [0, 0]).rings


def test_proportionate_counts_hardly_ever_ring_however_often_somebody_looks() -> None:
    chance = np.random.default_rng(5)
    looks = chance.multinomial(2_000, [0.25, 0.75], size=(300, 20)).cumsum(axis=1)
    assert not any(sample_ratio.check(counts.tolist(), [1, 3]).rings for run in looks for counts in run)
