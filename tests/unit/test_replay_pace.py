"""When replayed requests are due, and what a replay came to."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from multishadow.v1.replay_pb2 import ReplayResult
from multishadow_client.cli.replay_summary import ReplaySummary, quantile
from multishadow_server.core import replay
from multishadow_server.core.replay import Pace
from multishadow_server.errors import InvalidInput


def due(pace: Pace, *arrivals: float | None) -> list[float]:
    return [pace.due(index=index, at=at, first_at=arrivals[0]) for index, at in enumerate(arrivals)]


def test_arrivals_are_kept_or_scaled() -> None:
    assert due(Pace(speed=1), 100.0, 101.5, 104.0) == [0.0, 1.5, 4.0]
    assert due(Pace(speed=10), 100.0, 101.5, 104.0) == [0.0, 0.15, 0.4]


def test_a_rate_takes_the_place_of_the_arrivals_and_without_any_everything_is_due_at_once() -> None:
    assert due(Pace(rate=4), None, None, None) == [0.0, 0.25, 0.5]
    assert due(Pace(), 100.0, 900.0) == [0.0, 0.0]


def test_a_request_that_came_before_the_first_is_due_at_once() -> None:
    assert due(Pace(speed=1), 100.0, 99.0) == [0.0, 0.0]


def test_without_a_time_arrivals_cannot_be_kept() -> None:
    with pytest.raises(InvalidInput, match="request 1: it does not say when it was received"):
        due(Pace(speed=1), 100.0, None)


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(speed=-1), "speed: -1 is out of range"),
        (Pace(rate=math.nan), "rate: nan is out of range"),
        (Pace(speed=1, rate=1), "give one of them"),
        (Pace(concurrency=0), "concurrency: 0 is out of range"),
        (Pace(concurrency=1_001), "concurrency: 1001 is out of range"),
    ],
)
def test_a_pace_that_cannot_be_kept_is_refused(pace: Pace, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        replay.check_pace(pace)


def summary(*results: ReplayResult, total: int = 0, complete: bool = True) -> ReplaySummary:
    told = ReplaySummary(target="spam.A at 10.0.0.7:9000", total=total or len(results), complete=complete)
    for result in results:
        told.add(result)
    return told


def test_the_summary_counts_outcomes_and_sets_latencies_beside_the_recorded_ones() -> None:
    told = summary(
        *(ReplayResult(outcome="agree", latency_ms=n, recorded_latency_ms=2 * n) for n in range(1, 20)),
        ReplayResult(outcome="error", reason="UNAVAILABLE", latency_ms=10_000),
    )
    document = told.document()
    assert document["outcomes"]["agree"] == 19
    assert document["reasons"] == {"error: UNAVAILABLE": 1}
    assert document["latency_ms"] == {"p50": 10.0, "p95": 19.0}, (
        "an error may come back at once: its time is no latency"
    )
    assert document["recorded_latency_ms"] == {"p50": 20.0, "p95": 38.0}
    assert told.bad_share == 1 / 20


def test_a_replay_that_was_stopped_or_late_says_so() -> None:
    told = summary(ReplayResult(outcome="answered", latency_ms=1, late_ms=5_000), total=10, complete=False)
    console = Console(file=io.StringIO(), width=100)
    console.print(told.view())
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "1 of 10 to spam.A at 10.0.0.7:9000" in text
    assert "stopped before its end: 9 have no result" in text
    assert "one in twenty was sent 5.0 s late" in text


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert summary(complete=False).bad_share == 0
