"""Forecasts of what is still needed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from multishadow_server.core.statistics import forecast, sequences
from multishadow_server.core.statistics.bands import band_of
from multishadow_server.core.statistics.evidence import log_evidence

LOG_THRESHOLD = math.log(120)


def needed(b: float, c: float, rest: float) -> int | None:
    (only,) = forecast.requests_needed(
        only_first=np.array([float(b)]),
        only_second=np.array([float(c)]),
        neither_or_both=np.array([float(rest)]),
        log_threshold=LOG_THRESHOLD,
        margin=0.005,
    )
    return only


@pytest.mark.parametrize(("b", "c", "rest"), [(60, 40, 1000), (12, 5, 400), (200, 150, 5000)])
def test_a_different_pair_is_decided_at_about_the_forecast(b: int, c: int, rest: int) -> None:
    more = needed(b, c, rest)
    assert more is not None
    growth = np.array([0.85, 1.15]) * more / (b + c + rest) + 1
    early, late = log_evidence(b * growth, c * growth)
    assert early < LOG_THRESHOLD < late


def test_a_pair_without_discordant_requests_is_proven_equivalent_at_about_the_forecast() -> None:
    more = needed(0, 0, 1000)
    assert more is not None
    n = 1000 + more * np.array([0.9, 1.1])
    none = np.zeros(2)
    lower, upper = sequences.paired(only_first=none, only_second=none, neither_or_both=n, log_threshold=LOG_THRESHOLD)
    assert upper[0] > 0.005 > upper[1]
    assert lower[0] < -0.005 < lower[1]


def test_too_few_requests_give_no_forecast() -> None:
    assert needed(3, 1, 20) is None


def test_what_would_take_a_thousand_times_as_long_is_not_forecast() -> None:
    assert needed(60, 60, 0) is None


def test_a_band_is_confirmed_at_about_the_forecast() -> None:
    more = forecast.comparisons_needed(bad=30, n=2000, log_threshold=math.log(60))
    assert more is not None
    n = 2000 + more * np.array([0.7, 1.05])
    lower, upper = sequences.rate(bad=0.015 * n, n=n, log_threshold=math.log(60))
    assert band_of(lower[0]) != band_of(upper[0])
    assert band_of(lower[1]) == band_of(upper[1])


def test_a_rate_on_the_edge_of_a_band_gives_no_forecast() -> None:
    assert forecast.comparisons_needed(bad=100, n=10_000, log_threshold=math.log(60)) is None
