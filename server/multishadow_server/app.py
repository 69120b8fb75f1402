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
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

from nats.aio.client import Client
from rich.console import Console

from multishadow_server.adapters import health as health_check
from multishadow_server.adapters import nats_connection
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.adapters.flag_provider import make_provider
from multishadow_server.adapters.flagd_flags import SHARED_CONTEXT, FlagdFlags
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
from multishadow_server.adapters.postgres.live_counts import PostgresLiveCounts
from multishadow_server.adapters.postgres.observations import PostgresObservations
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.postgres.retention import PostgresRetention
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts
from multishadow_server.adapters.prediction_codec import ProtobufPredictionCodec, fingerprint
from multishadow_server.adapters.processes import unless_set
from multishadow_server.adapters.provider_claims import ProviderClaims
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.live_counts import LiveTally
from multishadow_server.core.segments import KnownLevels
from multishadow_server.entrypoints import probes
from multishadow_server.entrypoints.control import ControlServicer
from multishadow_server.entrypoints.control_server import ControlServer
from multishadow_server.entrypoints.flagd import FlagdServices
from multishadow_server.entrypoints.flags import FlagServicer
from multishadow_server.entrypoints.http import HttpServer, application
from multishadow_server.entrypoints.ofrep import Ofrep
from multishadow_server.entrypoints.prediction import PredictionHandler, PredictionServer
from multishadow_server.entrypoints.rollouts import RolloutServicer
from multishadow_server.errors import InvalidInput
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.configuration_in_hand import ConfigurationInHand
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.ending import end
from multishadow_server.service.flag_feed import FlagFeed
from multishadow_server.service.housekeeping import Housekeeping
from multishadow_server.service.in_flight import CallSlots, UnderWay
from multishadow_server.service.live_count_report import LiveCountReport
from multishadow_server.service.live_path import LivePath
from multishadow_server.service.partition_work import Pace, Workshop
from multishadow_server.service.ports import ClaimReader, ProcessStatus
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.service.rollout_rounds import RolloutRounds
from multishadow_server.service.shadowing import Shadowing
from multishadow_server.service.worker import Quotas, Worker
from multishadow_server.settings import Settings

Result = TypeVar("Result")

# Longest time that a router which ends spends on saying so.
WITHDRAW_SECONDS = 1.0


def _status(
    role: str,
    settings: Settings,
    *,
    revision: Callable[[], int],
    counters: Callable[[], Mapping[str, int]],
    flag_source: Callable[[], str] = str,
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
        flag_source=flag_source(),
    )


# --- router -------------------------------------------------------------------------------------------------------


async def router(settings: Settings, stop: asyncio.Event, *, ready: Callable[[str], None]) -> None:
    """Answer requests until `stop`, and log captures of the sampled ones.

    `ready` gets the bound address once the configuration was read. Neither the log nor the store is waited for: while
    one is away, requests are answered all the same.

    Raises:
        InvalidInput: an address is missing or is none, or MULTISHADOW_FLAG_PROVIDER names no provider.
        FailedPrecondition: the address to listen on is taken, or the flag provider says that it can never be used.
    """
    if settings.database_url is None or settings.nats_url is None:
        raise InvalidInput("a router needs MULTISHADOW_DATABASE_URL and MULTISHADOW_NATS_URL")
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        buffer = await _capture_buffer(settings, stack)
        claims = _claims(settings, stack)
        gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes)
        stack.push_async_callback(gateway.aclose)

        def follow(configuration: Configuration) -> None:
            live_path.load(configuration)
            report.soon()

        watch = ConfigurationWatch(
            # A rollback has to reach the routers also when nothing can be read of experiments.
            PostgresConfiguration(engine, experiments=False),
            on_change=follow,
            check_interval=settings.flag_check_interval,
        )
        served = LiveTally()
        live_path = LivePath(
            gateway=gateway,
            claims=claims,
            buffer=buffer,
            fingerprint=fingerprint,
            flag_age=lambda: max(watch.age, claims.age),
            stale_after=settings.flag_stale_after,
            served=served,
        )
        handler = PredictionHandler(live_path, max_message_bytes=settings.max_message_bytes)
        server = PredictionServer(settings.router_listen, handler, max_message_bytes=settings.max_message_bytes)

        def counters() -> Mapping[str, int]:
            age = max(watch.age, claims.age)
            aged = {} if math.isinf(age) else {"flag_age_ms": round(age * 1000)}
            late = {"live_counts.late": served.late} if served.late else {}
            return {**live_path.counters, **buffer.counters(), **claims.counters(), **aged, **late}

        async def readable() -> bool:
            await watch.first_read.wait()
            await claims.first_reading()
            return True

        status = _status(
            "router",
            settings,
            revision=lambda: watch.configuration.revision,
            counters=counters,
            flag_source=lambda: claims.source,
        )
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        counts = LiveCountReport(
            PostgresLiveCounts(engine),
            served,
            run=f"{settings.instance}/{uuid.uuid4().hex}",
            interval=settings.report_interval,
        )
        stack.push_async_callback(_at_most, WITHDRAW_SECONDS, counts.save)
        await stack.enter_async_context(_background(counts.run(stop), linger=WITHDRAW_SECONDS))
        await stack.enter_async_context(_background(watch.run()))
        await stack.enter_async_context(_background(report.run(stop), linger=WITHDRAW_SECONDS))
        async with server.listening(drain_seconds=settings.drain_seconds):
            if await _unless_stopped(stop, readable()):
                await server.open()
                # What was made so far stays for good: the collector need not look at it again while callers wait.
                gc.freeze()
                ready(server.address)
                await stop.wait()


def _claims(settings: Settings, stack: AsyncExitStack) -> ClaimReader:
    """Our own flags, or those of the provider that was named."""
    reader: OpenFeatureClaims | ProviderClaims
    if settings.flag_provider is None:
        reader = OpenFeatureClaims(ConfigurationProvider())
    else:
        reader = ProviderClaims(
            make_provider(settings.flag_provider),
            key_template=settings.flag_key_template,
            limit=settings.flag_read_limit,
        )
    stack.callback(reader.close)
    return reader


async def _at_most(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do it, but for no longer than that: a store that is away does not keep a router from ending."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work()


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


async def control(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None],
    http_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the control API and flags until `stop`, end experiments whose time box is over, and go on with rollouts.

    It starts, and answers UNAVAILABLE, while the database is away; the log it can do without. Flags that were read
    once are served on. `http_ready` gets the bound address of HTTP, before `ready` gets that of gRPC.

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
        # What keeps serving and rolling back has to go on when nothing can be read of experiments.
        flags_only = PostgresConfiguration(engine, experiments=False)
        housekeeping = Housekeeping(store, flags_only, labels, clock=time.time)
        feed = await _flag_feed(settings, flags_only, stack)
        flagd = FlagdServices(feed, shared_context=SHARED_CONTEXT)
        rollouts = PostgresRollouts(engine)
        rounds = RolloutRounds(store, rollouts, interval=settings.rollout_interval)
        probe = GrpcVersionProbe()
        server = ControlServer(
            ControlServicer(store=store, probe=probe, labels=labels, reviews=PostgresReviews(engine), backlog=backlog),
            FlagServicer(store),
            RolloutServicer(store=store, records=rollouts, probe=probe),
            later=flagd,
        )
        ofrep = Ofrep(feed, evaluations_per_second=settings.ofrep_evaluations_per_second)
        http = HttpServer(application(probes.routes(feed), ofrep.routes()), drain_seconds=settings.drain_seconds)

        def counters() -> Mapping[str, int]:
            return {**housekeeping.counters(), **feed.counters(), **rounds.counters()}

        status = _status("control", settings, revision=lambda: housekeeping.revision, counters=counters)
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        await stack.enter_async_context(_background(report.run(stop), linger=WITHDRAW_SECONDS))
        await stack.enter_async_context(_background(housekeeping.run(stop)))
        await stack.enter_async_context(_background(rounds.run(stop)))
        retention = PostgresRetention(engine, keep_days=settings.retention_days)
        await stack.enter_async_context(_background(retention.run(stop)))
        stack.push_async_callback(http.stop)
        stack.push_async_callback(server.stop, settings.drain_seconds)
        # Before both: streams would hold them up until their time to drain is over.
        stack.callback(feed.close)
        http_address = await http.start(settings.http_listen)
        address = await server.start(settings.control_listen)
        await stack.enter_async_context(_background(_announce_flags(feed, server, flagd)))
        http_ready(http_address)
        ready(address)
        await stop.wait()


async def _flag_feed(settings: Settings, source: PostgresConfiguration, stack: AsyncExitStack) -> FlagFeed[FlagdFlags]:
    """The flags that are served, following the configuration."""
    watch = ConfigurationWatch(
        source,
        on_change=lambda configuration: feed.load(configuration),  # noqa: PLW0108  it is made below
        check_interval=settings.flag_check_interval,
    )
    feed = FlagFeed(FlagdFlags, age=lambda: watch.age, stale_after=settings.flag_stale_after)
    await stack.enter_async_context(_background(watch.run()))
    return feed


async def _announce_flags(feed: FlagFeed[FlagdFlags], server: ControlServer, services: FlagdServices) -> None:
    """Say that flags are served, once they are."""
    await feed.first_read.wait()
    await server.now_serve(services)


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
    yield f"http      {endpoints.http}"
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
