"""A router samples less while its captures wait too long, and says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from multishadow_server.core.capture import CaptureBatch
from multishadow_server.core.sampling_share import Bounds
from multishadow_server.errors import LogUnavailable
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.ports import LogState
from multishadow_server.service.sampling_watch import Sampling, SamplingWatch


class NoLog:
    """Nothing is ever appended here."""

    partitions = 1
    largest_message = 1 << 20

    async def append(self, partition: int, batch: CaptureBatch, *, message_id: str) -> None:
        raise AssertionError("not in these tests")


@dataclass(slots=True)
class KnownLog:
    """A LogPressure that a test sets; None is away."""

    state: LogState | None

    async def look(self) -> LogState:
        if self.state is None:
            raise LogUnavailable("away")
        return self.state


CALM, LATE = LogState(lag=0.0, fill=0.0), LogState(lag=120.0, fill=0.1)


async def test_the_share_falls_under_lag_stays_while_nobody_knows_and_rises_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    limits = Limits(buffer_captures=10, buffer_bytes=10_000, flush_interval=1, flush_captures=1, flush_bytes=1)
    log, sampling = KnownLog(CALM), Sampling()
    watch = SamplingWatch(
        log, CaptureBuffer(NoLog(), router="r", limits=limits), sampling, bounds=Bounds(lag=60, fill=0.5), interval=1
    )
    shares = []
    for state in (CALM, LATE, LATE, None, *[CALM] * 9):
        log.state = state
        await watch.look()
        shares.append(round(sampling.share, 3))
    assert shares[:6] == [1.0, 0.5, 0.5, 0.5, 0.55, 0.605]
    assert shares[-1] == 1.0
    assert watch.counters() == {}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "sampling less than flags say, 50 % of it: the oldest capture waits for 120 s" in caplog.text


class BrokenLog:
    """A LogPressure whose answer nobody foresaw."""

    async def look(self) -> LogState:
        raise TypeError("a stream of another kind")


async def test_an_answer_that_nobody_foresaw_ends_no_router_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(buffer_captures=10, buffer_bytes=10_000, flush_interval=1, flush_captures=1, flush_bytes=1)
    buffer, sampling = CaptureBuffer(NoLog(), router="r", limits=limits), Sampling()
    watch = SamplingWatch(BrokenLog(), buffer, sampling, bounds=Bounds(lag=60, fill=0.5), interval=1)
    for _ in range(3):
        await watch.look()
    assert sampling.share == 1.0
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_buffer_that_fills_up_lowers_it_when_the_log_is_away() -> None:
    limits = Limits(buffer_captures=1_000, buffer_bytes=10_000, flush_interval=1, flush_captures=1, flush_bytes=1)
    buffer, sampling = CaptureBuffer(NoLog(), router="r", limits=limits), Sampling()
    buffer.held_bytes = 7_500
    watch = SamplingWatch(KnownLog(None), buffer, sampling, bounds=Bounds(lag=60, fill=0.5), interval=1)
    await watch.look()
    assert sampling.share == 0.5
    assert watch.counters() == {"sampling_permille": 500}
