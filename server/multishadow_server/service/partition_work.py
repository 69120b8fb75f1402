"""One partition of the capture log, from taking it over to giving it back: read, shadow, commit, acknowledge.

Messages are shadowed as they come, several at once, so that a hung shadow holds up its own captures and nothing else.
They are committed in order: the finished ones at the head of the line go into one transaction, together with the
partition's offset, and only then are they acknowledged. So whatever happens in between, a message either counts or is
delivered again, and what is delivered again although it counts is known by the offset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Protocol

from multishadow_server.core.capture import Capture
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.duplicates import SeenInputs
from multishadow_server.core.keeping import Keeper
from multishadow_server.core.segments import KnownLevels
from multishadow_server.core.sessions import OpenSessions
from multishadow_server.errors import FailedPrecondition, LeaseLost, StoreUnavailable
from multishadow_server.service.concealing import Concealing
from multishadow_server.service.ending import INNER_PATIENCE_SECONDS, end
from multishadow_server.service.in_flight import UnderWay
from multishadow_server.service.micro_batch import Finished, MicroBatch
from multishadow_server.service.outage import Outage
from multishadow_server.service.ports import CaptureReader, Flush, LoggedBatch, ObservationStore, PartitionReader
from multishadow_server.service.session_order import Ticket
from multishadow_server.service.session_work import SessionWork, Tick
from multishadow_server.service.shadowing import Shadowed, Shadowing, assigned_epoch, copies_of

# How soon a reader without news hears that it should stop.
READ_SECONDS = 0.25
SHORTEST_RETRY = 0.05
LONGEST_RETRY = 2.0

_logger = logging.getLogger(__name__)


class ConfigurationInHand(Protocol):
    """The configuration, followed as it changes."""

    async def at_least(self, revision: int) -> Configuration:
        """The configuration, read anew first when the one in hand is older than `revision`; waits for the store."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How a partition groups its commits.

    Args:
        batch_captures: captures that make a micro-batch full; a full one is committed at once.
        linger: shortest time between the commits of smaller ones, seconds.
    """

    batch_captures: int
    linger: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """What all partitions of a process share; `outage` is the store's, `tick` lets sessions end without traffic."""

    readers: CaptureReader
    store: ObservationStore
    shadowing: Shadowing
    configuration: ConfigurationInHand
    under_way: UnderWay
    counters: Counter[str]
    pace: Pace
    draw: Callable[[], float]
    levels: KnownLevels
    concealing: Concealing
    tick: Tick | None = None
    outage: Outage = field(default_factory=Outage)
    log_outage: Outage = field(default_factory=Outage)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Message:
    """A message whose captures are being shadowed."""

    logged: LoggedBatch
    size: int
    shadowing: asyncio.Task[Finished]

    @property
    def captures(self) -> int:
        return len(self.logged.batch.captures)


class PartitionWork:
    """Works on one partition until it is stopped or loses it; one use.

    Args:
        partition: which.
        workshop: what it works with.
        keeper: chooses the comparisons to store.
    """

    def __init__(self, partition: int, workshop: Workshop, keeper: Keeper) -> None:
        self.partition = partition
        self._with = workshop
        self._keeper = keeper
        self._line: deque[_Message] = deque()
        self._progress = asyncio.Event()
        self._reading_over = False
        self._offset = 0
        self._seen = SeenInputs()
        self._sessions = SessionWork(partition, workshop.store, OpenSessions())
        self._committed_at = 0.0

    @property
    def oldest_received_at(self) -> float | None:
        """When the oldest capture under way was received, seconds since the Unix epoch; None when there is none."""
        captures = self._line[0].logged.batch.captures if self._line else ()
        return captures[0].received_at if captures else None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then finish what is under way and return.

        Cancelling abandons what is under way; it is delivered again to whoever works on the partition next.

        Raises:
            LogUnavailable: reading must begin anew; what was under way is committed.
            LeaseLost: somebody else commits to this partition; what was under way is dropped.
            StoreUnavailable: the offset cannot be read.
            FailedPrecondition: the log is an older copy of the one that was counted.
        """
        reader = await self._with.readers.open(self.partition)
        if self._with.log_outage.ends():
            _logger.info("the capture log is back")
        try:
            # After the former owner was cut off; if it still commits, the next commit here is refused.
            await self._with.concealing.prepare()
            self._offset = await self._with.store.offset(reader.log_id, self.partition)
            self._check_time_goes_on(reader)
            self._seen = SeenInputs(await self._with.store.seen_inputs(reader.log_id, self.partition))
            self._sessions = await SessionWork.taken_over(
                self._with.store, reader.log_id, self.partition, tick=self._with.tick
            )
            reading = asyncio.create_task(self._read(reader, stop))
            try:
                await self._commit_in_order(reader)
                await reading
            finally:
                await self._abandon(reading)
        finally:
            await reader.aclose()

    def _check_time_goes_on(self, reader: PartitionReader) -> None:
        """Refuse a log that went back: it gives numbers to new messages that stand for counted ones."""
        if self._offset > reader.last_sequence:
            raise FailedPrecondition(
                f"the capture log {reader.log_id} ends at message {reader.last_sequence}, and {self._offset} is "
                "counted already: it was put back to an older state, so that new messages cannot be told from counted "
                "ones. Delete the stream, and routers make a new one (docs/backup.md)"
            )

    async def _read(self, reader: PartitionReader, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self._with.under_way.room()
                for logged in await reader.fetch(max_messages=1, wait=READ_SECONDS):
                    if logged.sequence <= self._offset:
                        await reader.acknowledge([logged])
                    else:
                        self._begin(logged, await self._configuration_for(logged))
                await self._sessions.look_at_the_clock()
        finally:
            self._reading_over = True
            self._progress.set()

    async def _configuration_for(self, logged: LoggedBatch) -> Configuration:
        """One not older than its decisions: a capture that an older one assigned would be the wrong epoch's."""
        batch = logged.batch
        newest = max([0, *(item.revision for item in batch.captures), *(item.revision for item in batch.drops)])
        return await self._with.configuration.at_least(newest)

    def _begin(self, logged: LoggedBatch, configuration: Configuration) -> None:
        if logged.unreadable:
            _logger.error(
                "message %d of partition %d of the capture log cannot be read and is passed over: %s",
                logged.sequence,
                self.partition,
                logged.unreadable,
            )
        size = sum(len(item.request) + len(item.response) * (1 + len(item.shadows)) for item in logged.batch.captures)
        # In the order of the log, and before anybody is called: the first of several alike is the one that counts.
        claims = [self._claim(capture, configuration) for capture in logged.batch.captures]
        tickets = self._sessions.enter(logged.batch.captures, configuration)
        shadowing = asyncio.create_task(self._shadow(logged, configuration, claims, tickets))
        message = _Message(logged=logged, size=size, shadowing=shadowing)
        message.shadowing.add_done_callback(lambda _: self._progress.set())
        self._with.under_way.take(message.captures, size)
        self._line.append(message)

    def _claim(self, capture: Capture, configuration: Configuration) -> tuple[Collection[str], bytes]:
        """The shadows that count this capture's input already, and keys of the input for the others."""
        epoch = assigned_epoch(capture, configuration)
        if epoch is None or capture.status_code:
            return (), b""
        return self._seen.claim(
            self._with.concealing.fingerprint(capture),
            epoch=epoch,
            received_at=capture.received_at,
            versions=copies_of(capture, epoch),
        )

    async def _shadow(
        self,
        logged: LoggedBatch,
        configuration: Configuration,
        claims: Sequence[tuple[Collection[str], bytes]],
        tickets: Sequence[Ticket | None],
    ) -> Finished:
        shadow = self._with.shadowing.shadow

        async def in_turn(ticket: Ticket, capture: Capture, repeated: Collection[str]) -> Shadowed:
            async with self._sessions.turn(ticket):
                return await shadow(capture, configuration, repeated=repeated)

        shadowed = await asyncio.gather(
            *(
                shadow(capture, configuration, repeated=repeated)
                if ticket is None
                else in_turn(ticket, capture, repeated)
                for capture, (repeated, _), ticket in zip(logged.batch.captures, claims, tickets, strict=True)
            )
        )
        keys = b"".join(keys for _, keys in claims)
        return Finished(logged=logged, configuration=configuration, shadowed=shadowed, keys=keys)

    async def _commit_in_order(self, reader: PartitionReader) -> None:
        while self._line or not self._reading_over:
            finished = self._finished()
            pause = self._pause(finished)
            if finished and pause <= 0:
                await self._commit(reader, finished)
                continue
            self._progress.clear()
            try:
                async with asyncio.timeout(pause if finished else None):
                    await self._progress.wait()
            except TimeoutError:
                continue

    def _finished(self) -> list[_Message]:
        """The finished messages at the head of the line that make the next micro-batch."""
        chosen: list[_Message] = []
        captures = 0
        for message in takewhile(lambda item: item.shadowing.done(), self._line):
            if chosen and captures + message.captures > self._with.pace.batch_captures:
                break
            chosen.append(message)
            captures += message.captures
        return chosen

    def _pause(self, finished: list[_Message]) -> float:
        """Seconds until these should be committed: few at a time wait for more, so that commits keep their number."""
        full = sum(message.captures for message in finished) >= self._with.pace.batch_captures
        more = len(finished) < len(self._line) and self._line[len(finished)].shadowing.done()
        if full or more or self._reading_over:
            return 0.0
        return self._committed_at + self._with.pace.linger - time.monotonic()

    async def _commit(self, reader: PartitionReader, messages: list[_Message]) -> None:
        finished = [message.shadowing.result() for message in messages]
        await self._learn_levels(finished)
        counted = await self._sessions.count(finished)
        batch = MicroBatch(
            keeper=self._keeper,
            draw=self._with.draw,
            seen=self._seen,
            levels=self._with.levels,
            divergent=counted.divergent,
        )
        for each in finished:
            batch.add(each)
        flush = batch.flush(
            log_id=reader.log_id,
            partition=self.partition,
            previous_offset=self._offset,
            sessions=counted.changes,
            ended=counted.rollups,
        )
        # By the newest terms in hand: what was captured before they changed is stored by them, too.
        newest = await self._with.configuration.at_least(0)
        flush = await self._with.concealing.concealed(flush, newest.models)
        await self._commit_surely(flush)
        self._offset = flush.offset
        self._committed_at = time.monotonic()
        for _ in messages:
            self._leave(self._line.popleft())
        self._note(batch)
        if counted.ended:
            self._with.counters["sessions_ended"] += counted.ended
        await reader.acknowledge([message.logged for message in messages])

    async def _learn_levels(self, finished: Sequence[Finished]) -> None:
        """Read, once per process, which segments of these epochs are counted already. Raises StoreUnavailable."""
        levels = self._with.levels
        epochs = {shadowed.epoch.id for each in finished for shadowed in each.shadowed if shadowed.epoch is not None}
        for epoch_id in epochs:
            if not levels.knows(epoch_id):
                levels.learn(epoch_id, await self._with.store.segment_levels(epoch_id))

    async def _commit_surely(self, flush: Flush) -> None:
        """Commit once: when the outcome is unknown, the offset tells."""
        retry = SHORTEST_RETRY
        while True:
            try:
                await self._commit_storable(flush)
            except StoreUnavailable as error:
                if self._with.outage.begins():
                    _logger.warning("commits wait until the store is back; their outcome is looked up then: %s", error)
                if await self._offset_moved_to(flush):
                    return
                await asyncio.sleep(retry)
                retry = min(LONGEST_RETRY, 2 * retry)
            else:
                self._with.outage.ends()
                return

    async def _commit_storable(self, flush: Flush) -> None:
        try:
            await self._with.store.commit(flush)
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception:
            if not flush.comparisons and not flush.answers and not flush.dead_letters:
                raise
            # Samples carry what callers sent, and a database may refuse some of it. The counts are ours.
            refused = len(flush.comparisons), len(flush.answers), len(flush.dead_letters)
            _logger.exception(
                "partition %d: %d samples, %d answers and %d dead letters cannot be stored", self.partition, *refused
            )
            await self._with.store.commit(replace(flush, comparisons=(), answers=(), dead_letters=()))
            self._with.counters["comparisons_refused"] += len(flush.comparisons)
            self._with.counters["answers_refused"] += len(flush.answers)
            self._with.counters["dead_letters.refused"] += len(flush.dead_letters)

    async def _offset_moved_to(self, flush: Flush) -> bool:
        """Whether a commit of unknown outcome was made. Waits for the store."""
        retry = SHORTEST_RETRY
        while True:
            try:
                offset = await self._with.store.offset(flush.log_id, flush.partition)
            except StoreUnavailable:
                await asyncio.sleep(retry)
                retry = min(LONGEST_RETRY, 2 * retry)
                continue
            if offset not in {flush.previous_offset, flush.offset}:
                raise LeaseLost(
                    f"partition {flush.partition} is at offset {offset}, neither {flush.previous_offset} nor "
                    f"{flush.offset}: somebody else works on it"
                )
            return offset == flush.offset

    def _note(self, batch: MicroBatch) -> None:
        counters = self._with.counters
        counters.update(batch.counters)
        counters["batches"] += 1
        counters["messages"] += len(batch.messages)

    def _leave(self, message: _Message) -> None:
        self._with.under_way.give_back(message.captures, message.size)

    async def _abandon(self, reading: asyncio.Task[None]) -> None:
        """End what is still under way, after a failure or when cancelled; after an orderly end there is nothing."""
        try:
            begun = [reading, *(message.shadowing for message in self._line)]
            await end(*begun, patience=INNER_PATIENCE_SECONDS)
        finally:
            # Also when it is told again while it waits: room that is never given back would one day be all there is.
            while self._line:
                self._leave(self._line.popleft())
