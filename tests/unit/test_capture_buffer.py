"""The buffer between the live path and the log: bounded, ordered, and honest about what it dropped."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from multishadow_server.core.capture import Capture, CaptureBatch, DropTally, partition_of
from multishadow_server.errors import LogFull, LogUnavailable, MessageTooLarge
from multishadow_server.service.capture_buffer import BRIEF_SECONDS, MOST_TALLIES, CaptureBuffer, Limits
from waiting import until

LIMITS = Limits(
    buffer_captures=1000, buffer_bytes=1 << 20, flush_interval=0.001, flush_captures=50, flush_bytes=1 << 18
)


class FakeLog:
    """A capture log in memory; it knows the ids that it has, and fails as long as a test wants it to."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.largest_message = 1 << 20
        self.failure: Exception | None = None
        self.loses_acknowledgements = False
        self.messages: dict[str, tuple[int, CaptureBatch]] = {}
        self.attempts = 0

    async def append(self, partition: int, batch: CaptureBatch, *, message_id: str) -> None:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        if sum(capture.size for capture in batch.captures) > self.largest_message:
            raise MessageTooLarge("too large")
        self.messages.setdefault(message_id, (partition, batch))
        if self.loses_acknowledgements:
            raise LogUnavailable("the acknowledgement is lost")

    @property
    def captures(self) -> list[str]:
        return [capture.request_id for _, batch in self.messages.values() for capture in batch.captures]

    @property
    def drops(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for _, batch in self.messages.values():
            for drop in batch.drops:
                counts[drop.reason] = counts.get(drop.reason, 0) + drop.count
        return counts


def a_capture(
    request_id: str = "r", *, request: bytes = b"", session_id: str = "", received_at: float = 6e8
) -> Capture:
    return Capture(
        request_id=request_id, session_id=session_id, model="spam", method="/m", attributes={}, request=request,
        metadata=(), live="base", shadows=("B", "A"), revision=3, response=b"", status_code=0, status_message="",
        live_latency=0.01, received_at=received_at,
    )  # fmt: skip


def offer(buffer: CaptureBuffer, capture: Capture) -> bool:
    return buffer.offer(capture.size, lambda: capture)


@asynccontextmanager
async def running(log: FakeLog, limits: Limits = LIMITS) -> AsyncIterator[CaptureBuffer]:
    buffer = CaptureBuffer(log, router="router-1", limits=limits)
    task = asyncio.create_task(buffer.run())
    try:
        yield buffer
    finally:
        await buffer.close(within=5)
        task.cancel()
        await asyncio.wait([task])


async def test_captures_reach_their_partition_in_the_order_of_their_session() -> None:
    log = FakeLog()
    async with running(log) as buffer:
        for i in range(500):
            assert offer(buffer, a_capture(f"r-{i}", session_id=f"s-{i % 7}"))
    assert sorted(log.captures) == sorted(f"r-{i}" for i in range(500))
    for partition, batch in log.messages.values():
        assert {partition_of(capture.partition_key, 4) for capture in batch.captures} == {partition}
        assert len(batch.captures) <= LIMITS.flush_captures
    for session in range(7):
        own = [int(name[2:]) for name in log.captures if int(name[2:]) % 7 == session]
        assert own == sorted(own)
    assert (buffer.held_captures, buffer.held_bytes, buffer.appended) == (0, 0, 500)


async def test_captures_of_one_input_meet_in_one_partition() -> None:
    log = FakeLog()
    async with running(log) as buffer:
        for i in range(100):
            assert offer(buffer, dataclasses.replace(a_capture(f"r-{i}", session_id=f"s-{i}"), fingerprint=b"alike"))
    assert len({partition for partition, _ in log.messages.values()}) == 1
    assert len(log.captures) == 100


async def test_a_capture_is_made_when_its_batch_is_and_in_time_for_others() -> None:
    log, made, began = FakeLog(), 0, asyncio.Event()
    now = 0.0

    def make() -> Capture:
        nonlocal made, now
        made += 1
        now += 0.6 * BRIEF_SECONDS
        began.set()
        return a_capture()

    buffer = CaptureBuffer(log, router="router-1", limits=LIMITS, monotonic=lambda: now)
    for _ in range(10):
        assert buffer.offer(a_capture().size, make)
    assert (made, buffer.held_captures) == (0, 10)
    task = asyncio.create_task(buffer.run())
    await began.wait()
    # Others had their turn after the second: both took longer than callers are held up.
    assert made == 2
    await buffer.close(within=5)
    task.cancel()
    await asyncio.wait([task])
    assert (made, len(log.captures), buffer.held_bytes) == (10, 10, 0)


async def test_a_batch_holds_at_most_so_many_bytes() -> None:
    log = FakeLog(partitions=1)
    async with running(log, dataclasses.replace(LIMITS, flush_bytes=5000)) as buffer:
        for i in range(20):
            offer(buffer, a_capture(f"r-{i}", request=bytes(1000)))
        offer(buffer, a_capture("large", request=bytes(9000)))
    sizes = [[capture.size for capture in batch.captures] for _, batch in log.messages.values()]
    assert all(sum(batch) <= 5000 or len(batch) == 1 for batch in sizes)
    assert len(log.captures) == 21


async def test_an_idle_buffer_writes_nothing() -> None:
    log = FakeLog()
    async with running(log):
        pass
    assert log.attempts == 0


async def test_the_bound_in_captures_holds_and_the_newest_is_dropped() -> None:
    log = FakeLog()
    log.failure = LogUnavailable("away")
    async with running(log, dataclasses.replace(LIMITS, buffer_captures=10)) as buffer:
        taken = [offer(buffer, a_capture(f"r-{i}")) for i in range(25)]
        await until(lambda: log.attempts > 3)
        assert taken == [True] * 10 + [False] * 15
        assert buffer.held_captures == 10
        assert buffer.counters() == {
            "captured": 0, "buffered": 10, "buffered_bytes": 10 * 512, "dropped.buffer_full": 15,
        }  # fmt: skip
        log.failure = None
        await until(lambda: not buffer.held_captures)
        assert sorted(log.captures) == [f"r-{i}" for i in range(10)]
    assert log.drops == {"buffer_full": 15}


async def test_the_bound_in_bytes_holds() -> None:
    log = FakeLog()
    log.failure = LogUnavailable("away")
    async with running(log, dataclasses.replace(LIMITS, buffer_bytes=10_000)) as buffer:
        taken = [offer(buffer, a_capture(f"r-{i}", request=bytes(2000))) for i in range(6)]
        assert taken == [True] * 3 + [False] * 3
        assert buffer.held_bytes <= 10_000
        log.failure = None
    assert log.drops == {"buffer_full": 3}


async def test_a_full_log_is_named_as_the_reason() -> None:
    log = FakeLog()
    log.failure = LogFull("full")
    async with running(log, dataclasses.replace(LIMITS, buffer_captures=2)) as buffer:
        offer(buffer, a_capture("a"))
        await until(lambda: log.attempts)
        offer(buffer, a_capture("b"))
        assert not offer(buffer, a_capture("c"))
        assert buffer.dropped == {"log_full": 1}
        log.failure = None
    assert (sorted(log.captures), log.drops) == (["a", "b"], {"log_full": 1})


async def test_a_capture_larger_than_a_message_is_dropped_at_once() -> None:
    log = FakeLog()
    async with running(log) as buffer:
        assert not offer(buffer, a_capture("huge", request=bytes((1 << 20) + 1)))
        assert offer(buffer, a_capture("small"))
    assert (log.captures, log.drops) == (["small"], {"too_large": 1})


async def test_a_batch_that_turns_out_too_large_is_halved_until_it_fits() -> None:
    log = FakeLog(partitions=1)
    async with running(log, dataclasses.replace(LIMITS, buffer_bytes=1 << 22)) as buffer:
        for i in range(9):
            assert offer(buffer, a_capture(f"r-{i}", request=bytes(5000)))
        log.largest_message = 12_000  # the server was reached, and takes less than was thought
        offer(buffer, a_capture("huge", request=bytes(20_000)))
    assert log.captures == [f"r-{i}" for i in range(9)]
    assert log.drops == {"too_large": 1}
    assert buffer.held_captures == 0


async def test_what_was_held_when_the_limit_shrank_is_counted_when_nothing_helps() -> None:
    log = FakeLog(partitions=1)
    async with running(log) as buffer:
        offer(buffer, a_capture("huge", request=bytes(20_000)))
        offer(buffer, a_capture("small"))
        log.largest_message = 12_000
    assert (log.captures, log.drops) == (["small"], {"too_large": 1})


async def test_a_lost_acknowledgement_makes_no_duplicate() -> None:
    log = FakeLog()
    log.loses_acknowledgements = True
    async with running(log) as buffer:
        for i in range(30):
            offer(buffer, a_capture(f"r-{i}"))
        await until(lambda: log.attempts > 12)
        log.loses_acknowledgements = False
    assert sorted(log.captures) == sorted(f"r-{i}" for i in range(30))
    assert buffer.appended == 30


@pytest.mark.parametrize("failure", [ValueError("no text"), RuntimeError("a fault")])
async def test_a_batch_that_cannot_be_written_does_not_stop_the_others(failure: Exception) -> None:
    log = FakeLog()
    log.failure = failure
    async with running(log) as buffer:
        offer(buffer, a_capture("bad"))
        await until(lambda: buffer.dropped)
        log.failure = None
        offer(buffer, a_capture("good"))
    assert (log.captures, log.drops) == (["good"], {"unwritable": 1})
    assert buffer.held_captures == 0


async def test_a_capture_that_cannot_be_made_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Capture:
        raise ValueError("nobody can read this")

    async with running(log := FakeLog()) as buffer:
        buffer.offer(700, broken)
        offer(buffer, a_capture("r-1"))
        await until(lambda: buffer.appended == 1)
        assert (buffer.held_captures, buffer.held_bytes) == (0, 0)
        assert buffer.counters()["dropped.unwritable"] == 1
    assert log.captures == ["r-1"]
    assert "a capture cannot be made" in caplog.text


async def test_drops_carry_their_decision_and_minute() -> None:
    log = FakeLog()
    async with running(log, dataclasses.replace(LIMITS, buffer_bytes=600)) as buffer:
        for received_at in (600.0, 601.0, 659.9, 660.0):
            offer(buffer, a_capture(request=bytes(5000), received_at=received_at))
    drops = [drop for _, batch in log.messages.values() for drop in batch.drops]
    assert [(drop.received_at, drop.count) for drop in drops] == [(600.0, 3), (660.0, 1)]
    assert {(drop.model, drop.live, drop.shadows, drop.revision) for drop in drops} == {("spam", "base", ("B", "A"), 3)}


async def test_counts_of_drops_do_not_grow_with_the_outage() -> None:
    log = FakeLog()
    log.failure = LogUnavailable("away")
    async with running(log, dataclasses.replace(LIMITS, buffer_captures=1)) as buffer:
        minutes = MOST_TALLIES + 500
        for minute in range(minutes + 1):
            offer(buffer, a_capture(received_at=60.0 * minute))
        log.failure = None
    drops = [drop for _, batch in log.messages.values() for drop in batch.drops]
    assert len(drops) <= MOST_TALLIES
    assert sum(drop.count for drop in drops) == minutes


async def test_closing_gives_up_after_its_time_and_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    log = FakeLog()
    log.failure = LogUnavailable("no connection")
    buffer = CaptureBuffer(log, router="router-1", limits=LIMITS)
    task = asyncio.create_task(buffer.run())
    offer(buffer, a_capture())
    await buffer.close(within=0.05)
    task.cancel()
    await asyncio.wait([task])
    assert "1 captures are lost" in caplog.text
    assert "no connection" in caplog.text


async def test_two_processes_of_one_name_never_share_an_id() -> None:
    log = FakeLog()
    for _ in range(2):
        async with running(log) as buffer:
            offer(buffer, a_capture("same"))
    assert len(log.messages) == 2


async def test_what_is_refused_before_it_is_offered_is_counted_with_its_decision_and_minute() -> None:
    log = FakeLog()
    tally = DropTally(
        model="spam", live="base", shadows=("A",), revision=3, reason="too_large", count=1, received_at=6e8 + 30
    )
    async with running(log) as buffer:
        for _ in range(3):
            buffer.refuse(tally)
        await until(lambda: log.drops == {"too_large": 3})
    assert buffer.counters()["dropped.too_large"] == 3
    (drop,) = (drop for _, batch in log.messages.values() for drop in batch.drops)
    assert drop == dataclasses.replace(tally, count=3, received_at=6e8)


async def test_it_tells_how_full_it_is_by_whichever_bound_is_nearer() -> None:
    log = FakeLog()
    buffer = CaptureBuffer(log, router="r", limits=dataclasses.replace(LIMITS, buffer_captures=10, buffer_bytes=10_000))
    assert buffer.fill == 0
    capture = a_capture()
    buffer.offer(capture.size, lambda: capture)
    assert buffer.fill == 0.1
    large = a_capture(request=bytes(4_000))
    buffer.offer(large.size, lambda: large)
    assert buffer.fill == (capture.size + large.size) / 10_000
