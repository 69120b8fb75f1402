"""Captures as a router would log them, an experiment that they belong to, and what was counted of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import nats
from nats.aio.client import Client
from sqlalchemy import text

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.app import worker as worker_role
from multishadow_server.core.capture import Capture, CaptureBatch, partition_of
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.errors import LogUnavailable
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.settings import Settings
from version_servers import PREDICT, Behaviour, VersionServer, labelled, serving
from waiting import PATIENCE, until

MODEL = "spam"
LIVE = "base"
_message_ids = itertools.count(1)


def request_of(request_id: str, *, model: str = MODEL) -> bytes:
    """The bytes of a request."""
    return prediction_pb2.PredictRequest(model=model, request_id=request_id, text="hello").SerializeToString()


def a_capture(
    request_id: str, *, shadows: Sequence[str] = ("A", "B", "C"), revision: int = 1, **more: object
) -> Capture:
    """A capture whose live answer was the label `yes`."""
    capture = Capture(
        request_id=request_id,
        session_id="",
        model=MODEL,
        method=PREDICT,
        attributes={},
        request=request_of(request_id),
        metadata=(),
        live=LIVE,
        shadows=tuple(shadows),
        revision=revision,
        response=labelled("yes").SerializeToString(),
        status_code=0,
        status_message="",
        live_latency=0.01,
        received_at=time.time(),
    )
    return replace(capture, **more)  # type: ignore[arg-type]  # fields by name


async def begin_experiment(
    database_url: str,
    addresses: Mapping[str, str],
    *,
    call_seconds: float | Mapping[str, float] = PATIENCE,
    max_in_flight: int = 64,
    noise_percent: float = 0.0,
) -> Epoch:
    """Register the model with its live version and these candidates, and start to compare them."""
    names = list(dict.fromkeys([LIVE, *addresses]))
    candidates = tuple(names[1:])
    seconds = call_seconds if isinstance(call_seconds, Mapping) else dict.fromkeys(names, call_seconds)
    model = Model(
        name=MODEL,
        versions=tuple(
            Version(
                model=MODEL,
                name=name,
                address=addresses.get(name, "127.0.0.1:1"),
                timeout=seconds.get(name, PATIENCE),
                max_in_flight=max_in_flight,
            )
            for name in names
        ),
    )
    engine = open_engine(database_url)
    try:
        async with PostgresControl(engine).change("test") as change:
            await change.put_model(model)
            await change.put_versions(model)
            experiment = await change.start_experiment(
                model=MODEL,
                candidates=candidates,
                percent=100,
                bucket_seconds=3600,
                duration=86_400,
                noise_percent=noise_percent,
            )
            return await change.open_epoch(
                experiment, live=LIVE, candidates=candidates, comparator=Comparator(), reason="started"
            )
    finally:
        await engine.dispose()


@asynccontextmanager
async def connected(nats_url: str) -> AsyncIterator[Client]:
    """A connection to NATS that comes back by itself."""
    client = await nats.connect(nats_url, reconnect_time_wait=0.05, max_reconnect_attempts=-1, error_cb=_ignore)
    try:
        yield client
    finally:
        await client.close()


async def _ignore(_error: Exception) -> None:
    """Restarts are part of the tests; nats-py would print them."""


async def append(log: JetStreamLog, captured: Sequence[Capture], *, per_message: int = 10) -> None:
    """Append captures to their partitions, and insist while the log is away: the same message keeps its id."""
    by_partition: dict[int, list[Capture]] = {}
    for capture in captured:
        partition = partition_of(capture.partition_key, log.partitions)
        by_partition.setdefault(partition, []).append(capture)
    for partition, own in by_partition.items():
        for batch in _batched(own, per_message):
            await _append_surely(log, partition, CaptureBatch(router="test", captures=tuple(batch)))


def _batched(own: Sequence[Capture], size: int) -> list[Sequence[Capture]]:
    return [own[start : start + size] for start in range(0, len(own), size)]


async def _append_surely(log: JetStreamLog, partition: int, batch: CaptureBatch) -> None:
    message_id = f"test-{next(_message_ids)}"

    async def appended() -> bool:
        try:
            await log.append(partition, batch, message_id=message_id)
        except LogUnavailable:
            return False
        return True

    await until(appended)


class Counts:
    """What the store has counted for one epoch."""

    def __init__(self, database_url: str, epoch: Epoch) -> None:
        self._engine = open_engine(database_url, pool_size=1)
        self._epoch = epoch

    async def family(self, family: str) -> Counter[tuple[str, str]]:
        """Counts by (subject, level)."""
        rollup = await PostgresControl(self._engine).rollup(self._epoch.id)
        return Counter(
            {(cell.subject, cell.level): count for cell, count in rollup.cells.items() if cell.family == family}
        )

    async def outcomes(self) -> Counter[tuple[str, str]]:
        """Observations by (version, outcome)."""
        return await self.family("outcome")

    async def reach(self, observations: int) -> None:
        """Wait until at least so many observations are counted."""

        async def counted() -> bool:
            return (await self.outcomes()).total() >= observations

        await until(counted)

    async def processes(self) -> Sequence[ProcessStatus]:
        """What processes last said of themselves."""
        return await PostgresControl(self._engine).processes()

    async def by_version(self) -> dict[str, int]:
        """Observations by version, whatever their outcome."""
        counted: Counter[str] = Counter()
        for (version, _), count in (await self.outcomes()).items():
            counted[version] += count
        return dict(counted)

    async def stored(self) -> list[tuple[str, str]]:
        """Stored comparisons: (request id, why it was kept)."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text("SELECT request_id, kept_because FROM comparison"))
            return [(row.request_id, row.kept_because) for row in rows]

    async def aclose(self) -> None:
        """Close its connections."""
        await self._engine.dispose()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A running experiment with its candidates' servers, the log's writing end, and what was counted."""

    settings: Settings
    epoch: Epoch
    servers: Mapping[str, VersionServer]
    client: Client
    log: JetStreamLog
    counts: Counts

    def captures(self, count: int, *, prefix: str = "r", **more: object) -> list[Capture]:
        """Captures of requests `<prefix>-0` on, decided at the epoch's first revision."""
        defaults = {"shadows": self.epoch.candidates, "revision": self.epoch.from_revision}
        return [a_capture(f"{prefix}-{number}", **defaults | more) for number in range(count)]  # type: ignore[arg-type]  # fields by name

    @asynccontextmanager
    async def counting(self, epoch: Epoch) -> AsyncIterator[Counts]:
        """The counts of another epoch."""
        counts = Counts(str(self.settings.database_url), epoch)
        try:
            yield counts
        finally:
            await counts.aclose()

    async def counter(self, name: str, *, equals: int) -> bool:
        """Whether the workers' counters of that name add up to so much."""
        return await self._sum(name) == equals

    async def counted(self, name: str, *, least: int) -> bool:
        """Whether they add up to so much at least."""
        return await self._sum(name) >= least

    async def _sum(self, name: str) -> int:
        return sum(process.counters.get(name, 0) for process in await self.counts.processes())

    async def partitions_of(self, instance: str, *, equals: int) -> bool:
        """Whether a worker says that it works on so many partitions."""
        processes = {process.instance: process for process in await self.counts.processes()}
        return instance in processes and processes[instance].counters.get("partitions") == equals

    async def waiting(self) -> int:
        """Messages of the log that nobody has acknowledged."""
        return int((await self.client.jetstream().stream_info(self.settings.log_name)).state.messages)

    async def drained(self) -> bool:
        """Whether everything in the log is done with."""
        return await self.waiting() == 0


@asynccontextmanager
async def staged(
    settings: Settings,
    behaviours: Mapping[str, Behaviour],
    *,
    call_seconds: float | Mapping[str, float] = PATIENCE,
    max_in_flight: int = 64,
    noise_percent: float = 0.0,
) -> AsyncIterator[Stage]:
    """Serve these candidates and begin an experiment on them, at the engines that the settings name.

    The live version is served too where it is named; only a noise floor asks for it.
    """
    database_url, nats_url = str(settings.database_url), str(settings.nats_url)
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(serving(behaviour)) for name, behaviour in behaviours.items()}
        addresses = {name: server.address for name, server in servers.items()}
        epoch = await begin_experiment(
            database_url,
            addresses,
            call_seconds=call_seconds,
            max_in_flight=max_in_flight,
            noise_percent=noise_percent,
        )
        client = await stack.enter_async_context(connected(nats_url))
        counts = Counts(database_url, epoch)
        stack.push_async_callback(counts.aclose)
        log = JetStreamLog(client, settings)
        await log.open()
        yield Stage(settings=settings, epoch=epoch, servers=servers, client=client, log=log, counts=counts)


async def begin_next_epoch(stage: Stage, *, candidates: Sequence[str]) -> Epoch:
    """Close the stage's epoch and open its experiment's next."""
    engine = open_engine(str(stage.settings.database_url))
    try:
        async with PostgresControl(engine).change("test") as change:
            experiment = await change.running_experiment(MODEL)
            assert experiment is not None
            await change.close_epoch(stage.epoch)
            return await change.open_epoch(
                experiment, live=LIVE, candidates=candidates, comparator=Comparator(), reason="other candidates"
            )
    finally:
        await engine.dispose()


async def move_version(stage: Stage, name: str, *, address: str) -> int:
    """Register another address of a version; returns the revision."""
    engine = open_engine(str(stage.settings.database_url))
    try:
        async with PostgresControl(engine).change("test") as change:
            model = change.configuration.models[MODEL]
            version = model.version(name)
            assert version is not None
            await change.put_versions(replace(model, versions=(replace(version, address=address),)))
            return change.revision
    finally:
        await engine.dispose()


@asynccontextmanager
async def working(
    settings: Settings, *, instance: str = "worker-1", metrics_ready: Callable[[str], None] = lambda _: None
) -> AsyncIterator[asyncio.Event]:
    """A worker in this process until the block ends; set the event to stop it earlier."""
    stop, ready = asyncio.Event(), asyncio.Event()
    own = settings.model_copy(update={"instance": instance})
    role = asyncio.create_task(worker_role.run(own, stop, ready=lambda _: ready.set(), metrics_ready=metrics_ready))
    try:
        await until(lambda: ready.is_set() or role.done())
        yield stop
    finally:
        stop.set()
        await role
