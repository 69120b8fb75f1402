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
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters import nats_connection
from multishadow_server.adapters.answer_codec import fingerprint
from multishadow_server.adapters.configuration_copy import ConfigurationCopy
from multishadow_server.adapters.flag_provider import make_provider
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.jetstream_pressure import JetStreamPressure
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.engine import open_engine, place
from multishadow_server.adapters.postgres.live_counts import PostgresLiveCounts
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.provider_claims import ProviderClaims
from multishadow_server.adapters.streamed_answer import StreamedPrediction
from multishadow_server.app import measuring, running, securing, tracing
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.live_counts import LiveTally
from multishadow_server.core.process_metrics import FlagStanding, RouterStanding, of_router
from multishadow_server.core.sampling_share import Bounds
from multishadow_server.entrypoints.inference import InferenceHandler
from multishadow_server.entrypoints.prediction import PredictionHandler, PredictionServer
from multishadow_server.errors import InvalidInput
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.live_count_report import LiveCountReport
from multishadow_server.service.live_path import LivePath
from multishadow_server.service.live_stream import Streaming
from multishadow_server.service.ports import ClaimReader
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.service.sampling_watch import Sampling, SamplingWatch
from multishadow_server.settings import Settings

# How long a router that starts waits for PostgreSQL before it serves by the copy of what it last read.
FIRST_READING_SECONDS = 2.0
QUIET_SECONDS = 1.0
GAP_SECONDS = 0.005


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None],
    metrics_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Answer requests until `stop`, and log captures of the sampled ones.

    `ready` gets the bound address once the configuration was read, or its copy. Neither the log nor the store is waited
    for: while one is away, requests are answered all the same. `metrics_ready` gets the address of the metrics first.

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
        traces, serving = tracing.begin("router", settings, stack), securing.serving(settings)
        measured = await measuring.expose(settings, "router", serving, stack, ready=metrics_ready)
        sampling = Sampling()
        buffer, sampling_watch = await _capture_buffer(settings, stack, sampling, drain)
        claims = _claims(settings, stack)
        copy = await _configuration_copy(settings, engine, stack)
        gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes, tls=securing.calling(settings))
        stack.push_async_callback(gateway.aclose)

        def follow(configuration: Configuration) -> None:
            live_path.load(configuration)
            report.soon()

        watch = ConfigurationWatch(
            # A rollback has to reach the routers also when nothing can be read of experiments.
            PostgresConfiguration(engine, experiments=False, remember=copy.remember if copy else lambda _: None),
            on_change=follow,
            check_interval=settings.flag_check_interval,
        )
        served = LiveTally()
        live_path = LivePath(
            gateway=traces.gateway(gateway),
            claims=claims,
            buffer=buffer,
            fingerprint=fingerprint,
            streaming=Streaming(
                collect=StreamedPrediction, largest=settings.max_message_bytes, room=settings.buffer_bytes
            ),
            # Our own flags are as old as the configuration.
            flag_age=(lambda: watch.age) if settings.flag_provider is None else (lambda: max(watch.age, claims.age)),
            stale_after=settings.flag_stale_after,
            served=served,
            sampling=sampling,
        )
        door = traces.door(live_path, max_message_bytes=settings.max_message_bytes)
        server = PredictionServer(
            settings.router_listen,
            PredictionHandler(door),
            InferenceHandler(door),
            max_message_bytes=settings.max_message_bytes,
            credentials=None if serving is None else serving.grpc_credentials(),
            describe=settings.reflection == "on",
        )

        def counters() -> Mapping[str, int]:
            age = max(watch.age, claims.age)
            aged = {} if math.isinf(age) else {"flag_age_ms": round(age * 1000)}
            late = {"live_counts.late": served.late} if served.late else {}
            watched = {**buffer.counters(), **sampling_watch.counters(), **claims.counters()}
            return {**live_path.counters, **watched, **aged, **late}

        measured.read = lambda: of_router(
            RouterStanding(
                counters=counters(),
                served=served.totals(),
                flags=FlagStanding(
                    revision=watch.configuration.revision,
                    age=max(watch.age, claims.age),
                    stale_after=settings.flag_stale_after,
                ),
                share=sampling.share,
                log=measuring.log_standing(sampling_watch.log),
                most_captures=settings.buffer_captures,
                most_bytes=settings.buffer_bytes,
            )
        )
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
        # Routers share their address: one that could not answer yet would take callers from the others.
        await running.unless_stopped(stop, _take_up(live_path, watch, copy, running.usable_schema(engine, stop)))
        async with server.listening(drain_seconds=settings.drain_seconds):
            if await running.unless_stopped(stop, _able_to_answer(live_path, watch, claims)):
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


async def _take_up(
    live_path: LivePath, watch: ConfigurationWatch, copy: ConfigurationCopy | None, usable: Awaitable[bool]
) -> bool:
    """Wait for a schema that is `usable`, and for the configuration; or until the copy of the last one has to do."""
    await usable
    await _at_most(FIRST_READING_SECONDS, watch.first_read.wait)
    if not live_path.ready and copy and (copied := copy.read()):
        live_path.load(copied)
    return True


async def _able_to_answer(live_path: LivePath, watch: ConfigurationWatch, claims: ClaimReader) -> bool:
    """Wait until there is a configuration, and flags to decide by."""
    if not live_path.ready:
        await watch.first_read.wait()
    await claims.first_reading()
    return True


async def _configuration_copy(
    settings: Settings, engine: AsyncEngine, stack: AsyncExitStack
) -> ConfigurationCopy | None:
    if settings.configuration_copy is None:
        return None
    copy = ConfigurationCopy(settings.configuration_copy, database=place(engine.url))
    await stack.enter_async_context(running.background(copy.run()))
    return copy


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


async def _at_most(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do it, but for no longer than that: a store that is away keeps a router neither from starting nor from ending."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work()


async def _capture_buffer(
    settings: Settings, stack: AsyncExitStack, sampling: Sampling, drain: running.Drain
) -> tuple[CaptureBuffer, SamplingWatch]:
    """The buffer with its way to the log, and what looks at both and writes `sampling`.

    When the stack ends, what the buffer holds is flushed, then the connection closed.
    """
    client = Client()
    stack.push_async_callback(nats_connection.disconnect, client)
    connecting = nats_connection.connect(
        str(settings.nats_url), name=settings.instance, client=client, tls=securing.nats(settings)
    )
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
    watch = SamplingWatch(
        JetStreamPressure(client, settings.log_name),
        buffer,
        sampling,
        bounds=Bounds(lag=settings.sampling_lag, fill=settings.sampling_fill),
        interval=settings.sampling_interval,
    )
    await stack.enter_async_context(running.background(watch.run()))
    return buffer, watch
