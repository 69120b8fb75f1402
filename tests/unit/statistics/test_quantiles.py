"""Bounds of the 99th percentile."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.special import betaln

from multishadow_server.core import latency
from multishadow_server.core.statistics import quantiles

TWO_SIDED = math.log(2 / 0.05)


def test_evidence_at_an_edge_is_the_beta_mixture_against_the_binomial() -> None:
    expected = betaln(19 + 950, 1 + 50) - betaln(19, 1) - 950 * math.log(0.99) - 50 * math.log(0.01)
    assert quantiles.log_evidence(np.array([950.0]), 1000.0)[0] == pytest.approx(expected, abs=1e-9)


def test_the_bounds_are_those_of_going_through_every_edge() -> None:
    chance = np.random.default_rng(3)
    levels = latency.histogram(chance.lognormal(-4, 0.7, 5_000))
    bins = {int(level): count for level, count in levels.items()}
    n = sum(bins.values())
    low: list[int] = []
    high: list[int] = []
    for edge in range(min(bins) - 1, max(bins) + 2):
        below = sum(count for level, count in bins.items() if level < edge)
        if quantiles.log_evidence(np.array([float(below)]), float(n))[0] >= TWO_SIDED:
            (low if below < 0.99 * n else high).append(edge)
    lower, upper = quantiles.p99(levels, log_threshold=TWO_SIDED)
    assert lower == pytest.approx(1e-6 * 1.01 ** max(low))
    assert upper == pytest.approx(1e-6 * 1.01 ** min(high))


def test_the_bounds_hold_at_every_look_about_as_often_as_they_should() -> None:
    chance = np.random.default_rng(4)
    wrong = 0
    for _ in range(200):
        seconds = chance.exponential(0.02, 4_000)
        intervals = (
            quantiles.p99(latency.histogram(seconds[:n]), log_threshold=TWO_SIDED) for n in range(200, 4_001, 200)
        )
        wrong += any(not lower <= 0.02 * math.log(100) <= upper for lower, upper in intervals)
    assert wrong <= 20


def test_without_answers_nothing_is_known_of_latency() -> None:
    assert quantiles.p99({}, log_threshold=TWO_SIDED) == (0.0, math.inf)


def test_a_version_that_times_out_more_than_one_call_in_a_hundred_has_no_finite_percentile() -> None:
    levels = Counter({"900": 9_000, latency.TIMED_OUT: 1_000})
    assert quantiles.p99(levels, log_threshold=TWO_SIDED) == (math.inf, math.inf)
