"""The router's parts, put together."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress

from nats.aio.client import Client

from multishadow_server.adapters import nats_connection
from multishadow_server.adapters.flag_provider import make_provider
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.live_counts import PostgresLiveCounts
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.prediction_codec import fingerprint
from multishadow_server.adapters.provider_claims import ProviderClaims
from multishadow_server.app import running
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.live_counts import LiveTally
from multishadow_server.entrypoints.prediction import PredictionHandler, PredictionServer
from multishadow_server.errors import InvalidInput
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.live_count_report import LiveCountReport
from multishadow_server.service.live_path import LivePath
from multishadow_server.service.ports import ClaimReader
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.settings import Settings

QUIET_SECONDS = 1.0
GAP_SECONDS = 0.005


async def run(settings: Settings, stop: asyncio.Event, *, ready: Callable[[str], None]) -> None:
    """Answer requests until `stop`, and log captures of the sampled ones.

    `ready` gets the bound address once the configuration was read. Neither the log nor the store is waited for: while
    one is away, requests are answered all the same.

    Raises:
        InvalidInput: an address is missing or is none, or MULTISHADOW_FLAG_PROVIDER names no provider.
        FailedPrecondition: the address to listen on is taken, or the flag provider says that it can never be used.
    """
    if settings.database_url is None or settings.nats_url is None:
        raise InvalidInput("a router needs MULTISHADOW_DATABASE_URL and MULTISHADOW_NATS_URL")
    drain, gone = running.Drain(settings.drain_seconds), asyncio.Event()
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        buffer = await _capture_buffer(settings, stack, drain)
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
            await running.usable_schema(engine, stop)
            await watch.first_read.wait()
            await claims.first_reading()
            return True

        status = running.status(
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
        stack.push_async_callback(_at_most, running.WITHDRAW_SECONDS, counts.save)
        await stack.enter_async_context(running.background(counts.run(gone), linger=running.WITHDRAW_SECONDS))
        await stack.enter_async_context(running.background(watch.run()))
        await stack.enter_async_context(running.background(report.run(gone), linger=running.WITHDRAW_SECONDS))
        async with server.listening(drain_seconds=settings.drain_seconds):
            if await running.unless_stopped(stop, readable()):
                await server.open()
                # What was made so far stays for good: the collector need not look at it again while callers wait.
                gc.freeze()
                ready(server.address)
                await stop.wait()
                # A load balancer that asks hears of it before calls are refused. Until then this router counts like
                # any other: who promotes waits for it, too.
                await server.leave()
                await asyncio.sleep(settings.drain_delay)
            gone.set()
            await _quiet_moment(lambda: live_path.counters["requests"])
            drain.begin()


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


async def _quiet_moment(requests: Callable[[], int]) -> None:
    """Wait for an instant in which no call comes, for a second at most.

    gRPC's core tells clients to go elsewhere, and at once cancels the calls that it has received and that nobody has
    taken up: their callers get CANCELLED, and no client repeats that by itself.
    """
    until = time.monotonic() + QUIET_SECONDS
    while (began := time.monotonic()) < until:
        before = requests()
        await asyncio.sleep(GAP_SECONDS)
        # Where the loop itself was late, calls may have come that it has not seen.
        if requests() == before and time.monotonic() - began < 2 * GAP_SECONDS:
            return


async def _at_most(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do it, but for no longer than that: a store that is away does not keep a router from ending."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work()


async def _capture_buffer(settings: Settings, stack: AsyncExitStack, drain: running.Drain) -> CaptureBuffer:
    """The buffer with its way to the log; when the stack ends, what it holds is flushed, then the connection closed."""
    client = Client()
    stack.push_async_callback(nats_connection.disconnect, client)
    connecting = nats_connection.connect(str(settings.nats_url), name=settings.instance, client=client)
    await stack.enter_async_context(running.background(connecting))
    limits = Limits(
        buffer_captures=settings.buffer_captures,
        buffer_bytes=settings.buffer_bytes,
        flush_interval=settings.flush_interval,
        flush_captures=settings.flush_captures,
        flush_bytes=settings.flush_bytes,
    )
    buffer = CaptureBuffer(JetStreamLog(client, settings), router=settings.instance, limits=limits)
    await stack.enter_async_context(running.background(buffer.run()))

    async def flush() -> None:
        # Calls under way had their time first, and may have taken all of it.
        await buffer.close(within=drain.left)

    stack.push_async_callback(flush)
    return buffer
