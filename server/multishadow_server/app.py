"""The composition root: the only place that knows every adapter. One coroutine per role.

Each role runs until `stop` is set, calls `ready` with its bound address (or its name) once it serves, and drains before
it returns.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from nats.aio.client import Client
from rich.console import Console

from multishadow_server.adapters import health as health_check
from multishadow_server.adapters import nats_connection
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.jetstream_reader import JetStreamReader
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.adapters.partition_leases import AdvisoryLeases
from multishadow_server.adapters.postgres import migration
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.adapters.postgres.observations import PostgresObservations
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.postgres.retention import PostgresRetention
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.prediction_codec import ProtobufPredictionCodec, fingerprint
from multishadow_server.adapters.processes import unless_set
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.core.segments import KnownLevels
from multishadow_server.entrypoints.control import ControlServer, ControlServicer
from multishadow_server.entrypoints.prediction import PredictionHandler, PredictionServer
from multishadow_server.errors import InvalidInput
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.configuration_in_hand import ConfigurationInHand
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.ending import end
from multishadow_server.service.housekeeping import Housekeeping
from multishadow_server.service.in_flight import CallSlots, UnderWay
from multishadow_server.service.live_path import LivePath
from multishadow_server.service.partition_work import Pace, Workshop
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.service.shadowing import Shadowing
from multishadow_server.service.worker import Quotas, Worker
from multishadow_server.settings import Settings

Result = TypeVar("Result")

# Longest time that a router which ends spends on saying so.
WITHDRAW_SECONDS = 1.0


def _status(
    role: str, settings: Settings, *, revision: Callable[[], int], counters: Callable[[], Mapping[str, int]]
) -> Callable[[], ProcessStatus]:
    """What this process says of itself, whenever it is asked."""
    started_at = time.time()
    return lambda: ProcessStatus(
        role=role,
        instance=settings.instance,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=started_at,
        revision=revision(),
        counters=counters(),
    )


# --- router -------------------------------------------------------------------------------------------------------


async def router(settings: Settings, stop: asyncio.Event, *, ready: Callable[[str], None]) -> None:
    """Answer requests until `stop`, and log captures of the sampled ones.

    `ready` gets the bound address once the configuration was read. Neither the log nor the store is waited for: while
    one is away, requests are answered all the same.

    Raises:
        InvalidInput: an address is missing or is none.
        FailedPrecondition: the address to listen on is taken.
    """
    if settings.database_url is None or settings.nats_url is None:
        raise InvalidInput("a router needs MULTISHADOW_DATABASE_URL and MULTISHADOW_NATS_URL")
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        buffer = await _capture_buffer(settings, stack)
        claims = OpenFeatureClaims(ConfigurationProvider())
        stack.callback(claims.close)
        gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes)
        stack.push_async_callback(gateway.aclose)
        watch = ConfigurationWatch(
            PostgresConfiguration(engine),
            on_change=lambda configuration: live_path.load(configuration),  # noqa: PLW0108  it is made below
            check_interval=settings.flag_check_interval,
        )
        live_path = LivePath(
            gateway=gateway,
            claims=claims,
            buffer=buffer,
            fingerprint=fingerprint,
            flag_age=lambda: watch.age,
            stale_after=settings.flag_stale_after,
        )
        handler = PredictionHandler(live_path, max_message_bytes=settings.max_message_bytes)
        server = PredictionServer(settings.router_listen, handler, max_message_bytes=settings.max_message_bytes)

        def counters() -> Mapping[str, int]:
            age = {} if math.isinf(watch.age) else {"flag_age_ms": round(watch.age * 1000)}
            return {**live_path.counters, **buffer.counters(), **age}

        status = _status("router", settings, revision=lambda: watch.configuration.revision, counters=counters)
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        await stack.enter_async_context(_background(watch.run()))
        await stack.enter_async_context(_background(report.run(stop), linger=WITHDRAW_SECONDS))
        async with server.listening(drain_seconds=settings.drain_seconds):
            if await _unless_stopped(stop, watch.first_read.wait()):
                await server.open()
                # What was made so far stays for good: the collector need not look at it again while callers wait.
                gc.freeze()
                ready(server.address)
                await stop.wait()


async def _capture_buffer(settings: Settings, stack: AsyncExitStack) -> CaptureBuffer:
    """The buffer with its way to the log; when the stack ends, what it holds is flushed, then the connection closed."""
    client = Client()
    stack.push_async_callback(nats_connection.disconnect, client)
    connecting = nats_connection.connect(str(settings.nats_url), name=settings.instance, client=client)
    await stack.enter_async_context(_background(connecting))
    limits = Limits(
        buffer_captures=settings.buffer_captures,
        buffer_bytes=settings.buffer_bytes,
        flush_interval=settings.flush_interval,
        flush_captures=settings.flush_captures,
        flush_bytes=settings.flush_bytes,
    )
    buffer = CaptureBuffer(JetStreamLog(client, settings), router=settings.instance, limits=limits)
    await stack.enter_async_context(_background(buffer.run()))
    stack.push_async_callback(buffer.close, within=settings.drain_seconds)
    return buffer


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, object], *, linger: float = 0.0) -> AsyncIterator[None]:
    """Run it beside the block. When it fails, so does the block; it is cancelled `linger` seconds after the block."""
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            yield
            await asyncio.wait((task,), timeout=linger)
            await end(task)
    except BaseExceptionGroup as group:
        # One thing went wrong: whoever started the role wants that, not a group of one.
        raise group.exceptions[0] from group


# --- worker -------------------------------------------------------------------------------------------------------


async def worker(settings: Settings, stop: asyncio.Event, *, ready: Callable[[str], None]) -> None:
    """Shadow the captures of a fair share of the log's partitions until `stop`, and count what comes of it.

    `ready` gets this worker's name once it knows its share. While the log or the store is away, it waits for them.

    Raises:
        InvalidInput: an address is missing or is none.
        FailedPrecondition: the log's name is taken by a stream that is no capture log.
    """
    if settings.database_url is None or settings.nats_url is None:
        raise InvalidInput("a worker needs MULTISHADOW_DATABASE_URL and MULTISHADOW_NATS_URL")
    # Closed in the opposite order: first what calls and compares, last what the results are written to.
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        client = await _unless_stopped(stop, nats_connection.connect(settings.nats_url, name=settings.instance))
        if client is None:
            return
        stack.push_async_callback(nats_connection.disconnect, client)
        partitions = await _unless_stopped(stop, nats_connection.log_partitions(client, settings))
        if partitions is None:
            return
        configuration = ConfigurationInHand(PostgresConfiguration(engine), check_interval=settings.flag_check_interval)
        workshop = Workshop(
            readers=JetStreamReader(client, settings.log_name),
            store=PostgresObservations(engine),
            shadowing=_shadowing(settings, stack),
            configuration=configuration,
            under_way=UnderWay(captures=settings.worker_captures, size=settings.worker_bytes),
            counters=Counter(),
            pace=Pace(batch_captures=settings.worker_batch_captures, linger=settings.worker_linger),
            # Which samples are kept for people to look at is no secret.
            draw=random.random,
            levels=KnownLevels(),
        )
        working = Worker(
            leases=AdvisoryLeases(settings.database_url, log_name=settings.log_name, partitions=partitions),
            workshop=workshop,
            quotas=Quotas(
                divergent_per_hour=settings.kept_divergent_per_hour,
                sample_per_hour=settings.kept_sample_per_hour,
                partitions=partitions,
            ),
            drain_seconds=settings.drain_seconds,
        )
        status = _status(
            "worker",
            settings,
            revision=lambda: configuration.revision,
            counters=lambda: working.counters(now=time.time()),
        )
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        reporting = asyncio.create_task(report.run(stop))
        try:
            await working.run(stop, ready=lambda: ready(settings.instance))
            await reporting
        finally:
            await end(reporting)


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What the work comes to; None when `stop` was set first."""
    results: list[Result] = []

    async def keep() -> None:
        results.append(await work)

    await unless_set(stop, keep())
    return results[0] if results else None


def _shadowing(settings: Settings, stack: AsyncExitStack) -> Shadowing:
    gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes)
    stack.push_async_callback(gateway.aclose)
    comparer = ComparisonPool(processes=settings.comparison_processes)
    stack.push_async_callback(comparer.aclose)
    return Shadowing(gateway=gateway, comparer=comparer, slots=CallSlots())


# --- control ------------------------------------------------------------------------------------------------------


async def control(settings: Settings, stop: asyncio.Event, *, ready: Callable[[str], None]) -> None:
    """Serve the control API until `stop`, and end experiments whose time box is over.

    It starts, and answers UNAVAILABLE, while the database is away; the log it can do without.

    Raises:
        InvalidInput: no database was named.
        FailedPrecondition: the address cannot be had.
    """
    if settings.database_url is None:
        raise InvalidInput("control needs MULTISHADOW_DATABASE_URL")
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        backlog = JetStreamBacklog(settings.nats_url, settings.log_name)
        stack.push_async_callback(backlog.aclose)
        store = PostgresControl(engine)
        labels = PostgresLabels(engine, ProtobufPredictionCodec())
        housekeeping = Housekeeping(store, PostgresConfiguration(engine), labels, clock=time.time)
        server = ControlServer(
            ControlServicer(
                store=store, probe=GrpcVersionProbe(), labels=labels, reviews=PostgresReviews(engine), backlog=backlog
            )
        )
        status = _status("control", settings, revision=lambda: housekeeping.revision, counters=housekeeping.counters)
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        await stack.enter_async_context(_background(report.run(stop), linger=WITHDRAW_SECONDS))
        await stack.enter_async_context(_background(housekeeping.run(stop)))
        retention = PostgresRetention(engine, keep_days=settings.retention_days)
        await stack.enter_async_context(_background(retention.run(stop)))
        stack.push_async_callback(server.stop, settings.drain_seconds)
        ready(await server.start(settings.control_listen))
        await stop.wait()


# --- everything on one machine ------------------------------------------------------------------------------------


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    routers: int,
    workers: int,
    report: Callable[[str], None],
    log_level: str = "warning",
) -> None:
    """Run every role as a supervised child process until `stop`, with engines of its own where none are given.

    Raises:
        MultishadowError: something did not start; what had started is stopped again.
    """

    async def run() -> None:
        async with Deployment(
            settings, routers=routers, workers=workers, report=report, log_level=log_level
        ) as endpoints:
            for line in _announcement(endpoints, settings):
                report(line)
            await stop.wait()
            report("stopping: routers, workers, control, engines")

    await unless_set(stop, run())


def _announcement(endpoints: Endpoints, settings: Settings) -> Iterator[str]:
    where = f"embedded in {settings.data_dir}"
    processes = ", ".join(f"{name} {pid}" for name, pid in endpoints.processes.items())
    yield f"router    {endpoints.router}"
    yield f"control   {endpoints.control}"
    yield f"database  {where if 'PostgreSQL' in endpoints.embedded else 'as given'}"
    yield f"log       {where if 'nats-server' in endpoints.embedded else 'as given'}"
    yield f"processes {processes}"
    yield f"Next: shadowctl apply -f model.yaml --server {endpoints.control}. Ctrl-C stops everything."


async def migrate(settings: Settings) -> None:
    """Bring the database to this program's schema. Raises StoreUnavailable."""
    assert settings.database_url is not None
    await asyncio.to_thread(migration.migrate, settings.database_url)


async def health(address: str, *, timeout: float) -> None:  # noqa: ASYNC109  it travels with the call as its deadline
    """Ask a server whether it serves. Raises Unavailable when it does not."""
    await health_check.check(address, timeout=timeout)


# --- the demonstration --------------------------------------------------------------------------------------------


async def demo(stop: asyncio.Event, *, keep: bool, seconds: float, console: Console) -> int:
    """Run the demonstration; return its exit code. Raises ModuleNotFoundError without the demo's extra."""
    from multishadow_server.demo import story  # noqa: PLC0415  scikit-learn is an extra that the roles do without

    return await story.tell(stop, keep=keep, seconds=seconds, console=console)
