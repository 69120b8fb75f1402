"""Sending requests again: who is called, at what pace, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass

from multishadow_server.core import protocols, replay
from multishadow_server.core.capture import Metadata
from multishadow_server.core.metadata import REPLAY_KEY, header_text
from multishadow_server.core.model import Comparator
from multishadow_server.core.protocols import Protocol
from multishadow_server.core.replay import Pace, Replayable, ReplayOutcome, ReplayResult
from multishadow_server.core.withheld import WRITES
from multishadow_server.core.writes import NO_WRITES, Writes
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import names
from multishadow_server.service.ending import INNER_PATIENCE_SECONDS, end
from multishadow_server.service.ports import (
    Answer,
    Comparer,
    ControlStore,
    ModelGateway,
    RequestFilter,
    StoredKey,
    StoredRequests,
)
from multishadow_server.service.shadowing import LONGEST_DETAIL, REQUEST_ID_KEY, SHADOW_KEY
from multishadow_server.service.statuses import status_word

VERSION_KEY = "x-multishadow-version"
# Requests that are read ahead of those under way, so that one slow session does not hold up the others.
HELD_PER_SLOT = 4
LOADED_AT_ONCE = 50

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Who is called.

    Args:
        model: the model's name.
        version: the version's; empty: a router, and with it whoever is live.
        address: where it is.
        timeout: longest time of a call in seconds.
        comparator: when two answers agree.
        renaming: put after a request, so that it names the model as its server does; see `protocols.renaming`.
        protocol: what the model speaks.
        writes: which of its requests write.
    """

    model: str
    version: str
    address: str
    timeout: float
    comparator: Comparator
    renaming: bytes = b""
    protocol: Protocol = Protocol.MULTISHADOW
    writes: Writes = NO_WRITES

    @property
    def described(self) -> str:
        """For people."""
        if self.version:
            return f"{self.model}.{self.version} at {self.address}"
        return f"{self.model}, whoever is live, through the router at {self.address}"


async def target_of(store: ControlStore, *, model: str, version: str, router: str) -> Target:
    """Who is to be called.

    Raises:
        InvalidInput: neither a version nor a router is named.
        NotFound: there is no such model or version.
        FailedPrecondition: requests of the model write.
        StoreUnavailable: the database is away.
    """
    found = names.model_of(await store.read(experiments=False), model)
    if found.writes.covers(f"/{protocols.CALLED_BY[found.protocol]}"):
        raise FailedPrecondition(
            f"requests of {found.name} write (`writes`, `writing_methods`): they are not sent again"
        )
    if not version:
        if not router:
            raise InvalidInput("router: say where it is, as control reaches it, or name a version")
        return Target(
            model=found.name,
            version="",
            address=router,
            timeout=found.default_timeout,
            comparator=found.comparator,
            protocol=found.protocol,
            writes=found.writes,
        )
    chosen = names.version_of(found, version)
    return Target(
        model=found.name,
        version=chosen.name,
        address=chosen.address,
        timeout=chosen.timeout,
        comparator=found.comparator,
        renaming=protocols.renaming(chosen.served_name, chosen.served_version),
        protocol=found.protocol,
        writes=found.writes,
    )


async def put_on_record(store: ControlStore, target: Target, pace: Pace, *, source: str, actor: str) -> None:
    """Who sends what load where goes into the audit log. Raises StoreUnavailable."""
    detail = {"to": target.described, "from": source, "speed": pace.speed, "rate": pace.rate}
    async with store.change(actor, experiments=False) as change:
        await change.audit("replay", f"{target.model}.{target.version}" if target.version else target.model, detail)


async def find(stored: StoredRequests, wanted: RequestFilter) -> Sequence[StoredKey]:
    """The stored requests that are meant.

    Raises:
        InvalidInput: too many are asked for.
        NotFound: there is none.
        StoreUnavailable: the database is away.
    """
    if not 1 <= wanted.most <= replay.LARGEST_MOST:
        raise InvalidInput(f"most: {wanted.most} is out of range; allowed are 1 to {replay.LARGEST_MOST:,}")
    keys = await stored.find(wanted)
    if not keys:
        raise NotFound(
            f"no stored request of {wanted.model} is as asked for; comparisons are stored while an experiment runs: "
            "those that diverge, and a sample of the rest (`shadowctl review list` shows some)"
        )
    return keys


async def load(stored: StoredRequests, keys: Sequence[StoredKey]) -> AsyncIterator[Replayable]:
    """Their contents, a few at a time. Raises StoreUnavailable."""
    for start in range(0, len(keys), LOADED_AT_ONCE):
        for each in await stored.load(keys[start : start + LOADED_AT_ONCE]):
            yield each


class Replaying:
    """One replay; one use.

    Args:
        gateway: calls the target.
        comparer: compares answers.
        target: who is called.
        pace: how fast.
    """

    def __init__(self, gateway: ModelGateway, comparer: Comparer, target: Target, pace: Pace) -> None:
        self._gateway = gateway
        self._comparer = comparer
        self._target = target
        self._pace = pace
        self._slots = asyncio.Semaphore(pace.concurrency)
        self._room = asyncio.Semaphore(pace.concurrency * HELD_PER_SLOT)
        self._finished: asyncio.Queue[ReplayResult | None] = asyncio.Queue()
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.withheld = 0

    async def results(self, requests: AsyncIterable[Replayable]) -> AsyncIterator[ReplayResult]:
        """Send them and give what became of each, as they end. Who stops asking for results stops the replay.

        Raises:
            InvalidInput: a request cannot be paced.
            Exception: whatever `requests` raises; those under way are abandoned then.
        """
        feeding = asyncio.create_task(self._feed(requests))
        try:
            while (result := await self._finished.get()) is not None:
                yield result
                # Only what was taken makes room: a reader that is slow slows the replay, and memory stays bounded.
                self._room.release()
            await feeding
        finally:
            await end(feeding)

    async def _feed(self, requests: AsyncIterable[Replayable]) -> None:
        try:
            await self._send_all(requests)
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            await end(*self._tasks, patience=INNER_PATIENCE_SECONDS)
            self._finished.put_nowait(None)

    async def _send_all(self, requests: AsyncIterable[Replayable]) -> None:
        begun, first_at = time.monotonic(), None
        index = 0
        async for each in requests:
            if index == 0:
                begun, first_at = time.monotonic(), each.at
            due = begun + self._pace.due(index=index, at=each.at, first_at=first_at)
            await self._room.acquire()
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._begin(index, each, due)
            index += 1

    def _begin(self, index: int, each: Replayable, due: float) -> None:
        previous = self._tails.get(each.session_id) if each.session_id else None
        task = asyncio.create_task(self._one(index, each, due, previous))
        self._tasks.add(task)
        if each.session_id:
            self._tails[each.session_id] = task
        task.add_done_callback(lambda done: self._ended(done, each.session_id))

    def _ended(self, task: asyncio.Task[None], session_id: str) -> None:
        self._tasks.discard(task)
        if self._tails.get(session_id) is task:
            del self._tails[session_id]

    async def _one(self, index: int, each: Replayable, due: float, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        if each.marked or self._target.writes.covers(each.method):
            self.withheld += 1
            detail = "it writes: it is not sent again"
            self._finished.put_nowait(
                ReplayResult(index=index, replayed=each, outcome=ReplayOutcome.ERROR, reason=WRITES, detail=detail)
            )
            return
        async with self._slots:
            late = max(0.0, time.monotonic() - due)
            self.sent += 1
            try:
                answer = await self._call(each)
                result = await self._judged(index, each, answer, late)
            except Exception:  # noqa: BLE001  see below
                # One odd request of a file must end neither the replay nor the results of the others.
                _log.exception("request %s could not be replayed", each.request_id)
                result = ReplayResult(
                    index=index, replayed=each, outcome=ReplayOutcome.ERROR, reason="internal_error", late=late
                )
        self._finished.put_nowait(result)

    async def _call(self, each: Replayable) -> Answer:
        call = self._gateway.call_stream if each.method == protocols.PREDICT_STREAM else self._gateway.call
        return await call(
            self._target.address,
            each.method,
            each.request + self._target.renaming,
            metadata=self._metadata(each),
            deadline=time.monotonic() + self._target.timeout,
        )

    def _metadata(self, each: Replayable) -> Metadata:
        marks: Metadata = ((REPLAY_KEY, "true"), (SHADOW_KEY, "true"))
        # A router makes that mark itself, from the request.
        return (*marks, (REQUEST_ID_KEY, header_text(each.request_id))) if self._target.version else marks

    async def _judged(self, index: int, each: Replayable, answer: Answer, late: float) -> ReplayResult:
        version = next((str(value) for key, value in answer.trailing_metadata if key == VERSION_KEY), "")
        if answer.status_code:
            word = status_word(answer.status_code)
            return ReplayResult(
                index=index,
                replayed=each,
                outcome=ReplayOutcome.TIMEOUT if word == "timeout" else ReplayOutcome.ERROR,
                reason=word,
                detail=answer.status_message[:LONGEST_DETAIL],
                latency=answer.latency,
                late=late,
                version=version,
            )
        if not each.response:
            outcome, reason, detail, similarity = ReplayOutcome.ANSWERED, "", "", None
        else:
            told = await self._comparer.compare(self._target.comparator, each.response, answer.response)
            outcome, reason, detail, similarity = replay.outcome_of(told), told.reason, told.detail, told.similarity
        return ReplayResult(
            index=index,
            replayed=each,
            outcome=outcome,
            reason=reason,
            detail=detail,
            similarity=similarity,
            latency=answer.latency,
            late=late,
            response=answer.response,
            version=version,
        )
