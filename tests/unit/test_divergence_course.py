"""Divergence over time: rates by the hour, and what was proven by then."""

from __future__ import annotations

import pytest

from multishadow_server.core import divergence_course, report
from multishadow_server.core.divergence_course import DivergenceCourse
from multishadow_server.core.findings import Interval
from multishadow_server.core.rollup import Rollup
from sightings import rollup_of

AB = ("A", "B")
HOUR = 3_600
# 2023-11-14 22:00 UTC.
FIRST = 1_699_999_200


def hours(count: int, *, broken_from: int = 10**9) -> list[Rollup]:
    return [
        rollup_of(AB, {"oo": 95, "ob": 4 + place % 3, "bo": 1} | ({"bb": 60} if place >= broken_from else {}))
        for place in range(count)
    ]


def course(counted: list[Rollup], *, bucket: int = HOUR, **terms: int) -> DivergenceCourse:
    buckets = {FIRST + bucket * place: rollup.tables() for place, rollup in enumerate(counted)}
    return divergence_course.build(buckets, versions=AB, bucket_seconds=bucket, alpha=0.05, **terms)


def reported(counted: list[Rollup], version: str) -> tuple[Interval | None, bool]:
    found = report.build(sum(counted, Rollup()), model="spam", live="prod", candidates=AB, buckets=counted)
    (only,) = (each for each in found.candidates if each.version == version)
    return only.divergence, only.rate_moved


@pytest.mark.parametrize("count", [1, 5, 140, 300])
def test_the_last_interval_is_the_reports(count: int) -> None:
    counted = hours(count)
    drawn = course(counted)
    for version in AB:
        assert (drawn.periods[version][-1].proven, False) == reported(counted, version)


def test_a_rate_that_changed_is_drawn_as_the_report_tells_it() -> None:
    counted = hours(80, broken_from=60)
    drawn = course(counted)
    interval, moved = reported(counted, "A")
    assert moved
    assert drawn.periods["A"][-1].proven == interval
    before, _ = reported(counted[:60], "A")
    assert drawn.periods["A"][59].proven == before


def test_each_hour_has_its_own_counts() -> None:
    drawn = course(hours(6))
    assert (drawn.seconds, drawn.starts) == (HOUR, tuple(FIRST + HOUR * place for place in range(6)))
    assert [(period.n, period.bad) for period in drawn.periods["B"]] == [(100 + h % 3, 4 + h % 3) for h in range(6)]
    assert drawn.periods["B"][0].rate == 0.04


def test_minutes_are_gathered_to_hours_and_many_hours_to_more() -> None:
    by_minute = course(hours(120), bucket=60)
    assert (by_minute.seconds, len(by_minute.starts)) == (HOUR, 2)
    assert sum(period.n for period in by_minute.periods["A"]) == sum(100 + place % 3 for place in range(120))
    few = course(hours(300), most=100)
    assert few.seconds == 4 * HOUR
    assert len(few.starts) <= 100
    assert few.periods["A"][-1].proven == course(hours(300)).periods["A"][-1].proven


def test_an_hour_without_a_comparison_has_no_rate() -> None:
    drawn = course([*hours(2), rollup_of(AB, {"uo": 5}), *hours(1)])
    assert [period.rate is None for period in drawn.periods["A"]] == [False, False, True, False]


def test_an_epoch_without_counts_has_an_empty_course() -> None:
    assert course([]) == DivergenceCourse(seconds=HOUR, starts=(), periods={"A": (), "B": ()})
