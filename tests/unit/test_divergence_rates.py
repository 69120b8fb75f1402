"""Intervals of divergence that run over the time buckets of an epoch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multishadow_server.core import divergence_rates, report
from multishadow_server.core.report import CandidateReport
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.statistics.bands import Band, band_of


def an_hour(bad: int, ok: int, version: str = "A") -> Rollup:
    return Rollup({Cell("outcome", version, "diverged"): bad, Cell("outcome", version, "ok"): ok})


def after(hours: list[Rollup]) -> CandidateReport:
    """A's report, once these hours are over."""
    whole = sum(hours, Rollup())
    return report.build(whole, model="spam", live="prod", candidates=("A",), buckets=hours).candidates[0]


def width(found: CandidateReport) -> tuple[float, float]:
    return (found.divergence.lower, found.divergence.upper) if found.divergence else (0.0, 1.0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 500)), min_size=2, max_size=12))
def test_another_hour_never_widens_a_reported_interval_unless_it_says_that_the_rate_moved(
    seen: list[tuple[int, int]],
) -> None:
    hours = [an_hour(bad, ok) for bad, ok in seen]
    reports = [after(hours[:count]) for count in range(1, len(hours) + 1)]
    held = [width(found) for found in reports if not found.rate_moved]
    for (lower, upper), (later_lower, later_upper) in itertools.pairwise(held):
        assert lower <= later_lower <= later_upper <= upper


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500)), min_size=1, max_size=12))
def test_estimate_interval_and_band_never_disagree(seen: list[tuple[int, int]]) -> None:
    found = after([an_hour(bad, ok) for bad, ok in seen])
    if found.divergence is None:
        assert (found.band, found.rate_moved) == (Band.UNKNOWN, False)
        return
    assert found.divergence.lower <= found.divergence.estimate <= found.divergence.upper
    assert (found.band_proven, found.band) == (band_of(found.divergence.lower), band_of(found.divergence.upper))


def test_what_was_proven_stays_proven_when_a_few_more_diverge() -> None:
    steady, at_once = after([an_hour(0, 700), an_hour(4, 200)]), after([an_hour(4, 900)])
    assert (steady.band, steady.band_confirmed, steady.rate_moved) == (Band.SAFE, True, False)
    assert at_once.band is Band.INVESTIGATE


def test_a_proof_from_before_a_change_does_not_vouch_for_what_came_after() -> None:
    broken = after([an_hour(0, 5_000), an_hour(100, 0)])
    assert broken.rate_moved
    assert width(broken) == width(after([an_hour(100, 5_000)]))
    assert broken.band is Band.INVESTIGATE


def test_a_band_is_not_confirmed_by_the_mean_over_a_change() -> None:
    broken = after([an_hour(0, 5_000), an_hour(20, 220)])
    assert (broken.rate_moved, broken.band, broken.band_proven) == (True, Band.SAFE, Band.SAFE)
    assert (broken.band_confirmed, broken.comparisons_needed) == (False, None)


def test_a_steady_rate_hardly_ever_counts_as_moved() -> None:
    chance, runs, hours = np.random.default_rng(3), 500, 100
    bad = chance.binomial(200, 0.03, (runs, hours))
    versions = [f"v{run}" for run in range(runs)]
    buckets = [
        {
            ("outcome", version): {"diverged": int(bad[run, hour]), "ok": 200 - int(bad[run, hour])}
            for run, version in enumerate(versions)
        }
        for hour in range(hours)
    ]
    ever = np.zeros(runs, dtype=bool)
    for hour in range(4, hours, 5):
        so_far = bad[:, : hour + 1].sum(axis=1).astype(float)
        n = np.full(runs, 200.0 * (hour + 1))
        ever |= divergence_rates.running(
            buckets[: hour + 1], versions, bad=so_far, n=n, log_threshold=float(np.log(1 / 0.05))
        ).moved
    assert ever.mean() <= 0.05


@pytest.mark.parametrize("buckets", [0, 1, 64, 168, 1_000])
def test_what_is_looked_back_on_stays_the_same_as_time_goes_on(buckets: int) -> None:
    year = divergence_rates.looks(525_600)
    assert len(year) < 1_000
    assert divergence_rates.looks(buckets) == [place for place in year if place < buckets]
