"""Live figures: what callers got of the last minute, from counts that only grow."""

from __future__ import annotations

import math

import pytest

from multishadow_server.core.latency import bin_of
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.live_figures import LiveFigures, LiveReading, between
from multishadow_server.core.live_rates import Counted
from multishadow_server.service.live_window import WINDOW_SECONDS, LiveWindow

FIRST = Counted("fraud", "base", 3, "router-1/x")
SECOND = Counted("fraud", "base", 3, "router-2/y")
NEW = Counted("fraud", "A", 4, "router-1/x")
BASE, A = ("fraud", "base"), ("fraud", "A")


def served(n: int, failed: int = 0, *, seconds: float = 0.02) -> LiveCounts:
    return LiveCounts(requests=n, failed=failed, latencies={str(bin_of(seconds)): n - failed})


def test_figures_are_of_what_came_between_two_readings_over_all_routers() -> None:
    before = LiveReading(at=100.0, counts={FIRST: served(1_000), SECOND: served(500)}, began={FIRST: 0.0, SECOND: 0.0})
    after = LiveReading(at=110.0, counts={FIRST: served(1_080, 4), SECOND: served(520)}, began=before.began)
    figures = between(before, after)[BASE]
    assert (figures.counts.requests, figures.counts.failed, figures.seconds) == (100, 4, 10.0)
    assert (figures.per_second, figures.failed) == (10.0, 0.04)


def test_the_latency_is_of_the_time_between_and_not_of_all_that_was_before() -> None:
    before = LiveReading(at=0.0, counts={FIRST: served(10_000, seconds=0.005)})
    slow = LiveCounts(requests=10_100, latencies={**served(10_000, seconds=0.005).latencies, str(bin_of(0.4)): 100})
    figures = between(before, LiveReading(at=10.0, counts={FIRST: slow}))[BASE]
    assert figures.p50 == pytest.approx(0.4, rel=0.01)


def test_a_count_that_began_between_the_readings_counts_whole() -> None:
    before = LiveReading(at=100.0, counts={FIRST: served(10)}, began={FIRST: 0.0})
    after = LiveReading(at=110.0, counts={FIRST: served(10), NEW: served(50)}, began={FIRST: 0.0, NEW: 104.0})
    figures = between(before, after)
    assert (figures[A].counts.requests, figures[A].per_second) == (50, 5.0)
    assert figures[BASE].counts.requests == 0


def test_a_count_that_had_rested_is_not_taken_for_new() -> None:
    before = LiveReading(at=1_000.0)
    after = LiveReading(at=1_010.0, counts={FIRST: served(90_000)}, began={FIRST: 0.0})
    assert between(before, after)[BASE].counts.requests == 0


def test_without_a_former_reading_figures_are_since_the_counts_began() -> None:
    reading = LiveReading(at=100.0, counts={FIRST: served(600), SECOND: served(300)}, began={FIRST: 10.0, SECOND: 60.0})
    figures = between(None, reading)[BASE]
    assert (figures.counts.requests, figures.seconds, figures.per_second) == (900, 90.0, 10.0)


def test_counts_of_a_router_that_is_forgotten_take_nothing_away() -> None:
    before = LiveReading(at=0.0, counts={FIRST: served(100), SECOND: served(100)})
    after = LiveReading(at=10.0, counts={FIRST: served(130)})
    assert between(before, after)[BASE].counts.requests == 30


def test_timeouts_are_longer_than_anything_and_no_requests_have_no_figures() -> None:
    timed_out = LiveFigures(counts=LiveCounts(requests=3, failed=3, latencies={"inf": 3}), seconds=10.0)
    assert (timed_out.failed, timed_out.p50) == (1.0, math.inf)
    nothing = LiveFigures(counts=LiveCounts(), seconds=0.0)
    assert (nothing.per_second, nothing.failed, nothing.p50, nothing.p99) == (0.0, None, None, None)


class Reader:
    """A LiveFigureReader that counts ten requests a second."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self.readings = 0

    async def now(self) -> float:
        return self.at

    async def reading(self) -> LiveReading:
        self.readings += 1
        return LiveReading(at=self.at, counts={FIRST: served(int(self.at * 10))}, began={FIRST: 0.0})


async def test_who_looks_often_sees_the_last_minute_and_reads_no_more_than_there_is_to_see() -> None:
    reader = Reader()
    window = LiveWindow(reader)
    assert (await window.figures())[BASE].seconds == 1_000.0
    reader.at += 1.0
    await window.figures()
    assert reader.readings == 1
    for _ in range(60):
        reader.at += 5.0
        figures = (await window.figures())[BASE]
    assert (figures.seconds, figures.per_second) == (WINDOW_SECONDS, 10.0)
    assert reader.readings == 61


async def test_who_looks_again_after_a_long_time_sees_what_came_since() -> None:
    reader = Reader()
    window = LiveWindow(reader)
    await window.figures()
    reader.at += 3_600.0
    figures = (await window.figures())[BASE]
    assert (figures.seconds, figures.per_second) == (3_600.0, 10.0)
