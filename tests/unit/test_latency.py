"""Latency histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import latency

latencies = st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=200)


@given(latencies, st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_within_half_a_percent_of_the_exact_one(seconds: list[float], percent: int) -> None:
    exact = sorted(seconds)[math.ceil(percent * len(seconds) / 100) - 1]
    found = latency.percentile(latency.histogram(np.array(seconds)), percent)
    assert found == pytest.approx(exact, rel=0.005)


@given(latencies, latencies)
def test_histograms_of_two_halves_add_up_to_that_of_the_whole(one: list[float], other: list[float]) -> None:
    whole = latency.histogram(np.array(one + other))
    first, second = latency.histogram(np.array(one)), latency.histogram(np.array(other))
    assert whole == {level: first.get(level, 0) + second.get(level, 0) for level in first | second}


def test_a_timeout_is_longer_than_anything_that_was_measured() -> None:
    histogram = latency.histogram(np.array([0.1] * 98 + [math.inf] * 2))
    assert latency.percentile(histogram, 98) == pytest.approx(0.1, rel=0.005)
    assert latency.percentile(histogram, 99) == math.inf


def test_without_answers_there_is_no_percentile() -> None:
    assert latency.percentile({}, 50) is None


def test_no_time_at_all_counts_as_a_microsecond() -> None:
    assert latency.histogram(np.array([0.0])) == {"0": 1}


def test_ratios_tell_faster_from_slower() -> None:
    ratios = latency.ratio_histogram(np.array([0.020, 0.005, math.inf]), np.array([0.010, 0.010, 0.010]))
    doubled, halved = math.floor(math.log(2) / math.log(1.01)), math.floor(-math.log(2) / math.log(1.01))
    assert ratios == {str(doubled): 1, str(halved): 1, "inf": 1}
