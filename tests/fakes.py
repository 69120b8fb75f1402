"""Working stand-ins for ports, kept in memory, for faults that a real engine cannot be made to show on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from enum import Enum

from multishadow_server.core.assignments import FlagChange
from multishadow_server.core.capture import Metadata
from multishadow_server.core.comparison import Comparison, Verdict
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.duplicates import Chunk
from multishadow_server.core.model import Comparator
from multishadow_server.core.redaction import Kind, Redactor, Seal
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.sessions import OpenSessions, SessionChanges
from multishadow_server.errors import LeaseLost, LogUnavailable, StoreUnavailable
from multishadow_server.service.ports import Answer, AnswerStream, Flush, LoggedBatch, StoredComparison


class Fault(Enum):
    """What goes wrong with a commit."""

    LOST_BEFORE = "the connection is lost before the commit happens"
    LOST_AFTER = "the connection is lost after the commit happened"
    SAMPLES_REFUSED = "the samples cannot be stored"


class MemoryObservations:
    """An ObservationStore. `faults` strike the next commits, one each; `away` makes reading fail so many times."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[str, int], int] = {}
        self.rollup: dict[int, Rollup] = {}
        self.seen: dict[tuple[str, int], dict[int, bytes]] = {}
        self.comparisons: list[StoredComparison] = []
        self.sessions: dict[tuple[str, int], OpenSessions] = {}
        self.changes: list[FlagChange] = []
        self.commits = 0
        self.faults: deque[Fault] = deque()
        self.away = 0

    async def offset(self, log_id: str, partition: int) -> int:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return self.offsets.get((log_id, partition), 0)

    async def seen_inputs(self, log_id: str, partition: int) -> Sequence[Chunk]:
        chunks = self.seen.get((log_id, partition), {})
        return [Chunk(number=number, keys=keys) for number, keys in sorted(chunks.items())]

    async def open_sessions(self, log_id: str, partition: int) -> SessionChanges:
        present = self.sessions.get((log_id, partition), OpenSessions())
        return SessionChanges(time=present.time, put=list(present.open.values()))

    async def flag_changes(self, keys: Sequence[str], *, since: float) -> Sequence[FlagChange]:
        del since
        return [change for change in self.changes if change.key in keys]

    async def segment_levels(self, epoch_id: int) -> Sequence[str]:
        cells = self.rollup.get(epoch_id, Rollup()).cells
        return [level for family, _, level in cells if family == Family.SEGMENT]

    async def commit(self, flush: Flush) -> None:
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.LOST_BEFORE:
            raise StoreUnavailable("lost")
        if fault is Fault.SAMPLES_REFUSED and flush.comparisons:
            raise ValueError("cannot be stored")
        self._commit(flush)
        if fault is Fault.LOST_AFTER:
            raise StoreUnavailable("lost")

    def _commit(self, flush: Flush) -> None:
        key = (flush.log_id, flush.partition)
        if self.offsets.get(key, 0) != flush.previous_offset:
            raise LeaseLost("somebody else commits")
        self.offsets[key] = flush.offset
        self.commits += 1
        self.comparisons += flush.comparisons
        chunks = self.seen.setdefault(key, {})
        for chunk in flush.seen:
            chunks[chunk.number] = chunks.get(chunk.number, b"") + chunk.keys
        self.seen[key] = {number: keys for number, keys in chunks.items() if number > flush.forgotten}
        sessions = self.sessions.get(key, OpenSessions())
        kept = {**sessions.open, **{each.key: each for each in flush.sessions.put}}
        self.sessions[key] = OpenSessions(
            [each for each in kept.values() if each.key not in flush.sessions.ended],
            time=sessions.time if flush.sessions.time is None else flush.sessions.time,
        )
        for (epoch_id, _), rollup in flush.rollups.items():
            self.rollup[epoch_id] = self.rollup.get(epoch_id, Rollup()) + rollup

    def outcome(self, version: str, outcome: str) -> int:
        """Observations of one version and outcome, over all epochs."""
        total = sum(self.rollup.values(), Rollup())
        return sum(n for cell, n in total.cells.items() if cell == ("outcome", version, outcome))


class MemoryPartition:
    """A CaptureReader and its only PartitionReader: what was not acknowledged comes again when it is opened again."""

    def __init__(self, messages: Sequence[LoggedBatch] = ()) -> None:
        self.log_id = "memory"
        self.left = {message.sequence: message for message in messages}
        self.last_sequence = max(self.left, default=0)
        self.lost = False
        self._queue: deque[LoggedBatch] = deque()
        self._news = asyncio.Event()

    async def open(self, partition: int) -> MemoryPartition:
        assert partition == 0
        self.lost = False
        self._queue = deque(self.left[sequence] for sequence in sorted(self.left))
        return self

    def append(self, message: LoggedBatch) -> None:
        """Log one more message."""
        self.left[message.sequence] = message
        self.last_sequence = message.sequence
        self._queue.append(message)
        self._news.set()

    async def fetch(self, *, max_messages: int, wait: float) -> Sequence[LoggedBatch]:
        self._check()
        if not self._queue:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), wait)
            except TimeoutError:
                return []
        return [self._queue.popleft() for _ in range(min(max_messages, len(self._queue)))]

    async def acknowledge(self, batches: Sequence[LoggedBatch]) -> None:
        self._check()
        for batch in batches:
            del self.left[batch.sequence]

    async def aclose(self) -> None:
        """Nothing is held."""

    def _check(self) -> None:
        if self.lost:
            raise LogUnavailable("lost")


class ScriptedGateway:
    """A ModelGateway: `answer` decides by address; `calls` are (address, metadata, deadline); it waits until `open`."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self._answer = answer
        self.calls: list[tuple[str, Metadata, float | None]] = []
        self.streamed: list[str] = []
        self.requests: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        self.calls.append((address, metadata, deadline))
        self.requests.append(request)
        await self.open.wait()
        return self._answer(address)

    def stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> AnswerStream:
        raise AssertionError("workers ask for the whole")

    async def call_stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        self.streamed.append(method)
        return await self.call(address, method, request, metadata=metadata, deadline=deadline)

    async def aclose(self) -> None:
        """Nothing is open."""


class ScriptedStream:
    """An AnswerStream of these messages, which then ends so; or hangs, and says when.

    Attributes:
        read: messages that were asked for.
        hanging: set once the end is waited for in vain.
    """

    FIRST_LATENCY = 0.25

    def __init__(self, messages: Sequence[bytes], end: Answer, *, hangs: bool = False) -> None:
        self._messages = deque(messages)
        self._end = end
        self._hangs = hangs
        self.read = 0
        self.hanging = asyncio.Event()
        self.cancelled = False

    async def next(self) -> bytes | None:
        if self._messages:
            self.read += 1
            return self._messages.popleft()
        if self._hangs:
            self.hanging.set()
            await asyncio.Event().wait()
        return None

    async def initial_metadata(self) -> Metadata:
        return (("x-first", "1"),)

    def ended(self) -> Answer:
        return replace(self._end, first_latency=self.FIRST_LATENCY if self.read else None)

    def cancel(self) -> None:
        self.cancelled = True


class EqualBytes:
    """A Comparer: equal bytes agree; an empty answer cannot be compared."""

    async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
        if not shadow:
            return Comparison(verdict=Verdict.UNCOMPARABLE, similarity=None, reason="not_set")
        agree = live == shadow
        return Comparison(verdict=Verdict.AGREE if agree else Verdict.DIVERGE, similarity=float(agree))


class KnownConfiguration:
    """A ConfigurationSource whose configuration a test sets; `away` makes reading fail so many times."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.away = 0
        self.reads = 0

    async def read(self) -> Configuration:
        self._check()
        self.reads += 1
        return self.configuration

    async def revision(self) -> int:
        self._check()
        return self.configuration.revision

    async def changes(self) -> AsyncIterator[int]:
        """Only the present one."""
        self._check()
        yield self.configuration.revision

    def _check(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")


class KnownSeal:
    """A SealSource whose key is known."""

    async def seal(self) -> Seal:
        return Seal(b"known key")


class NoRewriting:
    """A PayloadRewriter that can read nothing."""

    def rewritten(self, kind: Kind, method: str, payload: bytes, redactor: Redactor, seal: Seal) -> bytes | None:
        return None
