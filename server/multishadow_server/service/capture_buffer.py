"""Captures on their way to the log: a bounded buffer that never makes the live path wait.

Offering a capture does no IO and never blocks. One task takes captures from the front, groups them by partition and
appends; a batch that the log does not take is appended again under the same id until it does. Meanwhile the buffer
fills up to its bound, and then the newest capture is dropped and counted by its reason. Those counts go to the log with
the next batch: an experiment must know what it did not see.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from multishadow_server.core.capture import Capture, CaptureBatch, DropTally, partition_of
from multishadow_server.core.hot_value import hot_value
from multishadow_server.core.withheld import TOO_LARGE
from multishadow_server.errors import LogFull, MessageTooLarge, MultishadowError
from multishadow_server.service import ports
from multishadow_server.service.ending import set_within

logger = logging.getLogger(__name__)

# Reasons for which a capture is dropped.
BUFFER_FULL = "buffer_full"
LOG_FULL = "log_full"
UNWRITABLE = "unwritable"

# Longest time that making captures holds up callers in one go, seconds.
BRIEF_SECONDS = 0.0003
FIRST_RETRY = 0.05
LAST_RETRY = 1.0
# Drops are told apart by minute, which is finer than any rollup's bucket.
TALLY_SECONDS = 60
MOST_TALLIES = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of the buffer and of its batches; see the settings of the same names."""

    buffer_captures: int
    buffer_bytes: int
    flush_interval: float
    flush_captures: int
    flush_bytes: int


class CaptureBuffer:
    """Holds captures until the log has them.

    Args:
        log: the capture log.
        router: this process's name, written into every batch.
        limits: bounds of what it holds and of what it sends at once.
        monotonic: seconds of a clock that only goes forward.

    Attributes:
        appended: captures that the log has.
        dropped: captures that it never got, by reason.
        held_captures, held_bytes: what it holds now, with what is being appended.
    """

    def __init__(
        self,
        log: ports.CaptureLog,
        *,
        router: str,
        limits: Limits,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._log = log
        self._monotonic = monotonic
        self._router = router
        self._limits = limits
        # Looked up batch by batch, not for each capture: what is too large by now is seen when it is appended.
        self._largest = log.largest_message
        # Each with its size.
        self._pending: deque[tuple[int, Callable[[], Capture]]] = deque()
        self._tallies = _Tallies()
        self._messages = 0
        # Ids must not repeat a former process's of the same name, or the log would take new captures for old ones.
        self._nonce = uuid.uuid4().hex[:12]
        self._arrived, self._enough, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._closing = False
        self._trouble: MultishadowError | None = None
        self.appended = 0
        self.dropped: Counter[str] = Counter()
        self.held_captures = 0
        self.held_bytes = 0

    def offer(self, size: int, capture: Callable[[], Capture]) -> bool:
        """Take a capture, or drop and count it; whether it was taken. Never blocks.

        Args:
            size: of the capture; see `size_of`.
            capture: makes it, when its batch is made: no caller waits for that.
        """
        limits = self._limits
        if size > limits.buffer_bytes or size > self._largest:
            return self._drop([capture()], TOO_LARGE)
        if self.held_captures >= limits.buffer_captures or self.held_bytes + size > limits.buffer_bytes:
            return self._drop([capture()], LOG_FULL if self.refused else BUFFER_FULL)
        if not self._pending:
            self._arrived.set()
        self._pending.append((size, capture))
        self.held_captures += 1
        self.held_bytes += size
        if len(self._pending) >= limits.flush_captures:
            self._enough.set()
        return True

    def drop(self, capture: Capture, reason: str) -> None:
        """Count a capture that cannot be offered."""
        self._drop([capture], reason)

    def refuse(self, tally: DropTally) -> None:
        """Count captures that are not even offered, as dropped."""
        self.dropped[tally.reason] += tally.count
        self._tallies.put_back([replace(tally, received_at=_minute(tally.received_at))])
        self._arrived.set()

    @property
    def fill(self) -> float:
        """Share of the buffer that is in use, by whichever bound is nearer."""
        return max(self.held_captures / self._limits.buffer_captures, self.held_bytes / self._limits.buffer_bytes)

    @property
    def refused(self) -> bool:
        """Whether the log said last that it is full."""
        return isinstance(self._trouble, LogFull)

    async def run(self) -> None:
        """Append what is offered, until `close`."""
        try:
            while not self._closing or self._pending or self._tallies:
                await self._gather()
                await self._append_all(self._next_messages(await self._taken()))
        finally:
            self._ended.set()

    async def close(self, *, within: float) -> None:
        """Append what is left; what the log did not take in `within` seconds is lost, and logged."""
        self._closing = True
        self._arrived.set()
        self._enough.set()
        await set_within(self._ended, within)
        if self.held_captures:
            logger.warning(
                "%d captures are lost: the log did not take them in %.1f s (%s)",
                self.held_captures, within, self._trouble or "it is slow",
            )  # fmt: skip

    def counters(self) -> dict[str, int]:
        """How it is, for the process's report."""
        return {
            "captured": self.appended,
            "buffered": self.held_captures,
            "buffered_bytes": self.held_bytes,
            **{f"dropped.{reason}": count for reason, count in self.dropped.items()},
        }

    # --- building batches ---

    async def _gather(self) -> None:
        """Wait for something to send, then a little longer for more of it."""
        await self._arrived.wait()
        await set_within(self._enough, self._limits.flush_interval)

    async def _taken(self) -> list[Capture]:
        """The oldest captures, at most `flush_captures`.

        Making one takes the fingerprint of its input: callers come between, or a flush would be their p99.
        """
        taken: list[Capture] = []
        begun = self._monotonic()
        for _ in range(min(len(self._pending), self._limits.flush_captures)):
            size, capture = self._pending.popleft()
            try:
                taken.append(capture())
            except Exception:
                # Its decision is not known without it: it is counted here alone.
                logger.exception("a capture cannot be made")
                self.dropped[UNWRITABLE] += 1
                self.held_captures -= 1
                self.held_bytes -= size
            if self._monotonic() - begun > BRIEF_SECONDS:
                await asyncio.sleep(0)
                begun = self._monotonic()
        return taken

    def _next_messages(self, taken: Iterable[Capture]) -> list[_Message]:
        """Messages of these captures."""
        self._largest = self._log.largest_message
        by_partition: dict[int, list[Capture]] = defaultdict(list)
        partitions = self._log.partitions
        for capture in taken:
            by_partition[partition_of(capture.partition_key, partitions)].append(capture)
        messages = [
            self._message(partition, captures, size)
            for partition, of_partition in by_partition.items()
            for captures, size in self._split(of_partition)
        ]
        if self._tallies:
            first = messages.pop(0) if messages else self._message(0, [], 0)
            messages.insert(0, replace(first, batch=replace(first.batch, drops=self._tallies.take())))
        if not self._pending:
            self._arrived.clear()
        if len(self._pending) < self._limits.flush_captures and not self._closing:
            self._enough.clear()
        if self._closing:
            self._arrived.set()
        return messages

    def _split(self, captures: Iterable[Capture]) -> Iterator[tuple[list[Capture], int]]:
        """Batches of at most `flush_bytes`, and of at least one capture, each with its size."""
        most = min(self._limits.flush_bytes, self._largest)
        batch: list[Capture] = []
        size = 0
        for capture in captures:
            one = capture.size
            if batch and size + one > most:
                yield batch, size
                batch, size = [], 0
            batch.append(capture)
            size += one
        yield batch, size

    def _message(self, partition: int, captures: Sequence[Capture], size: int) -> _Message:
        self._messages += 1
        batch = CaptureBatch(router=self._router, captures=tuple(captures))
        return _Message(
            partition=partition, batch=batch, size=size, id=f"{self._router}-{self._nonce}-{self._messages}"
        )

    # --- appending ---

    async def _append_all(self, messages: Iterable[_Message]) -> None:
        """Append them: partitions at once, a partition's own in their order.

        They begin one turn of the event loop after the other, because encoding each takes its time.
        """
        by_partition: dict[int, list[_Message]] = defaultdict(list)
        for message in messages:
            by_partition[message.partition].append(message)
        async with asyncio.TaskGroup() as appending:
            for own in by_partition.values():
                appending.create_task(self._append_in_order(own))
                await asyncio.sleep(0)

    async def _append_in_order(self, messages: Iterable[_Message]) -> None:
        for message in messages:
            await self._append(message)

    async def _append(self, message: _Message) -> None:
        """Append one message, however long it takes."""
        delay = FIRST_RETRY
        while True:
            try:
                await self._log.append(message.partition, message.batch, message_id=message.id)
            except MessageTooLarge:
                return await self._append_halves(message)
            except MultishadowError as error:
                self._note(error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY)
            except Exception:
                # Whatever is wrong with this batch must not keep the others from the log.
                logger.exception("a batch of %d captures cannot be written", len(message.batch.captures))
                return self._give_up(message, UNWRITABLE)
            else:
                return self._done(message)

    async def _append_halves(self, message: _Message) -> None:
        captures = message.batch.captures
        if len(captures) < 2:
            return self._give_up(message, TOO_LARGE)
        middle = len(captures) // 2
        first = replace(message.batch, captures=captures[:middle])
        second = replace(message.batch, captures=captures[middle:], drops=())
        size = sum(capture.size for capture in first.captures)
        await self._append(replace(message, batch=first, size=size, id=f"{message.id}a"))
        await self._append(replace(message, batch=second, size=message.size - size, id=f"{message.id}b"))
        return None

    def _done(self, message: _Message) -> None:
        self._release(message)
        self.appended += len(message.batch.captures)
        if self._trouble is not None:
            logger.info("the capture log takes captures again")
            self._trouble = None

    def _give_up(self, message: _Message, reason: str) -> None:
        self._release(message)
        self._tallies.put_back(message.batch.drops)
        self._drop(message.batch.captures, reason)

    def _release(self, message: _Message) -> None:
        self.held_captures -= len(message.batch.captures)
        self.held_bytes -= message.size

    def _drop(self, captures: Sequence[Capture], reason: str) -> bool:
        for capture in captures:
            self.dropped[reason] += 1
            self._tallies.add(capture, reason)
        self._arrived.set()
        return False

    def _note(self, error: MultishadowError) -> None:
        if type(error) is not type(self._trouble):
            logger.warning("captures wait, at most %d: %s", self._limits.buffer_captures, error)
        self._trouble = error


@hot_value
class _Message:
    """One message for the log: its partition, captures and their size, and the id under which it may be repeated."""

    partition: int
    batch: CaptureBatch
    size: int
    id: str


class _Tallies:
    """Counts of dropped captures, until the log has them; they do not grow with time."""

    def __init__(self) -> None:
        self._counts: Counter[DropTally] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, capture: Capture, reason: str) -> None:
        """Count one."""
        tally = DropTally(
            model=capture.model,
            live=capture.live,
            shadows=capture.shadows,
            revision=capture.revision,
            reason=reason,
            count=1,
            received_at=_minute(capture.received_at),
        )
        self._count(tally, 1)

    def take(self) -> tuple[DropTally, ...]:
        """All of them; from here on they are the batch's that carries them."""
        taken = tuple(replace(tally, count=count) for tally, count in self._counts.items())
        self._counts.clear()
        return taken

    def put_back(self, tallies: Iterable[DropTally]) -> None:
        """The batch that carried them was given up."""
        for tally in tallies:
            self._count(replace(tally, count=1), tally.count)

    def _count(self, tally: DropTally, count: int) -> None:
        if len(self._counts) >= MOST_TALLIES and tally not in self._counts:
            # After hours without the log the minute is given up, not the count.
            tally = next((known for known in self._counts if _same_decision(known, tally)), tally)
        self._counts[tally] += count


def _minute(received_at: float) -> float:
    return received_at // TALLY_SECONDS * TALLY_SECONDS


def _same_decision(known: DropTally, tally: DropTally) -> bool:
    return replace(known, received_at=tally.received_at) == tally
