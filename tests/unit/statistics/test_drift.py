"""Alarms when a rate changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import betabinom

from multishadow_server.core.statistics import drift


def test_a_shadow_that_died_into_looking_good_rings() -> None:
    alarm, evidence = drift.first_alarm([15] * 50 + [0] * 20, [500] * 70)
    assert alarm is not None
    assert not alarm.rising
    assert 50 <= alarm.hour <= 53
    assert (alarm.before, alarm.then) == (0.03, 0)
    assert evidence >= math.log(2160)


def test_a_rate_that_rises_rings() -> None:
    alarm, _ = drift.first_alarm([15] * 50 + [30] * 20, [500] * 70)
    assert alarm is not None
    assert alarm.rising
    assert 50 <= alarm.hour <= 53


@pytest.mark.parametrize("broken", [500, 50])
def test_a_candidate_that_never_diverged_rings_in_the_hour_in_which_it_breaks(broken: int) -> None:
    alarm, _ = drift.first_alarm([0] * 100 + [broken], [500] * 101)
    assert alarm == drift.Alarm(hour=100, rising=True, before=0, then=broken / 500)


def test_a_candidate_that_always_failed_rings_in_the_hour_in_which_it_recovers() -> None:
    alarm, _ = drift.first_alarm([500] * 20 + [5], [500] * 21)
    assert alarm == drift.Alarm(hour=20, rising=False, before=1, then=0.01)


def test_a_steady_rate_rings_once_in_ninety_days_at_most() -> None:
    chance = np.random.default_rng(6)
    n = chance.poisson(300, (300, 720))
    bad = chance.binomial(n, 0.03)
    rang = sum(drift.first_alarm(a.tolist(), b.tolist())[0] is not None for a, b in zip(bad, n, strict=True))
    assert rang <= 300 * 720 / 2160


@pytest.mark.parametrize("rate", [0.0001, 0.01, 0.05, 0.3, 0.95])
def test_a_short_history_does_not_ring_by_being_short(rate: float) -> None:
    chance, hours = np.random.default_rng(7), [20] + [5_000] * 23
    runs = [drift.first_alarm(chance.binomial(hours, rate).tolist(), hours) for _ in range(300)]
    assert sum(alarm is not None for alarm, _ in runs) <= 300 * 24 / 2160


def test_evidence_of_the_second_hour_is_the_mean_ratio_of_predictions() -> None:
    (a, b), (bad, n) = (0.5 + 30, 0.5 + 970), (9, 100)
    null = betabinom(n, a, b).pmf(bad)
    alternatives = [(r * a, a + b - r * a) for r in drift.RATIOS] + [(0.5, 0.5)]
    likelihoods = [betabinom(n, *alternative).pmf(bad) / null for alternative in alternatives]
    assert drift.first_alarm([30, bad], [1000, n])[1] == pytest.approx(math.log(np.mean(likelihoods)), abs=1e-9)


@pytest.mark.parametrize("share", [0, 1])
def test_a_candidate_that_never_or_always_diverges_has_not_changed(share: int) -> None:
    hours = [400] * 720
    assert drift.first_alarm([share * n for n in hours], hours)[0] is None


@pytest.mark.parametrize("hours", [[], [500], [0, 0, 500]])
def test_one_hour_alone_tells_nothing(hours: list[int]) -> None:
    assert drift.first_alarm([0] * len(hours), hours) == (None, -math.inf)
