"""The worker's parts, put together."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from multishadow_server.adapters import nats_connection
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.jetstream_reader import JetStreamReader
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.partition_leases import AdvisoryLeases
from multishadow_server.adapters.payload_rewriting import ProtobufPayloadRewriter
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.dead_letters import PostgresDeadLetters
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.hash_key import PostgresHashKey
from multishadow_server.adapters.postgres.live_totals import PostgresLiveTotals
from multishadow_server.adapters.postgres.observations import PostgresObservations
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.app import measuring, running, securing, tracing
from multishadow_server.core.capture import CaptureBatch
from multishadow_server.core.process_metrics import WorkerStanding, of_worker
from multishadow_server.core.segments import KnownLevels
from multishadow_server.core.shadow_counts import ShadowTally
from multishadow_server.errors import InvalidInput
from multishadow_server.service.concealing import Concealing
from multishadow_server.service.configuration_in_hand import ConfigurationInHand
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.dead_letter_retries import DeadLetterRetries
from multishadow_server.service.ending import end
from multishadow_server.service.in_flight import CallSlots, UnderWay
from multishadow_server.service.live_load import LiveLoad
from multishadow_server.service.partition_work import Pace, Workshop
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.service.session_work import Tick
from multishadow_server.service.shadowing import Shadowing
from multishadow_server.service.version_guard import VersionGuard
from multishadow_server.service.worker import Quotas, Worker
from multishadow_server.settings import Settings

# New objects between looks for cycles. A worker holds thousands of captures, all of which go with their last reference:
# at Python's 700 it spends half of its own time on looking through them. (A router makes such cycles, with the request
# in them, of the calls that it ends with an error: there Python's number stays.)
COLLECT_EVERY = 50_000


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None],
    metrics_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Shadow the captures of a fair share of the log's partitions until `stop`, and count what comes of it.

    `ready` gets this worker's name once it knows its share. While the log or the store is away, it waits for them.
    `metrics_ready` gets the address of its metrics first.

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
        measured = await measuring.expose(settings, "worker", securing.serving(settings), stack, ready=metrics_ready)
        if not await running.usable_schema(engine, stop):
            return
        connecting = nats_connection.connect(settings.nats_url, name=settings.instance, tls=securing.nats(settings))
        client = await running.unless_stopped(stop, connecting)
        if client is None:
            return
        stack.push_async_callback(nats_connection.disconnect, client)
        partitions = await running.unless_stopped(stop, nats_connection.log_partitions(client, settings))
        if partitions is None:
            return
        # A pause has to reach calls that wait, and captures decided before it: what limits say is heard, not asked for.
        guard = VersionGuard(share=lambda: working.share)
        watch = ConfigurationWatch(
            PostgresConfiguration(engine, experiments=False),
            on_change=guard.follow,
            check_interval=settings.flag_check_interval,
        )
        load = LiveLoad(PostgresLiveTotals(engine), guard, interval=settings.report_interval)
        configuration = ConfigurationInHand(PostgresConfiguration(engine), check_interval=settings.flag_check_interval)
        counters: Counter[str] = Counter()
        tally = ShadowTally()
        workshop = Workshop(
            readers=JetStreamReader(client, settings.log_name),
            store=PostgresObservations(engine, counters),
            shadowing=_shadowing(settings, stack, guard, tally),
            configuration=configuration,
            under_way=UnderWay(captures=settings.worker_captures, size=settings.worker_bytes),
            counters=counters,
            pace=Pace(batch_captures=settings.worker_batch_captures, linger=settings.worker_linger),
            # Which samples are kept for people to look at is no secret.
            draw=random.random,
            levels=KnownLevels(),
            concealing=Concealing(
                PostgresHashKey(engine, given=settings.hash_key), ProtobufPayloadRewriter(), counters
            ),
            tick=_ticking(JetStreamLog(client, settings), settings.instance),
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

        def counted() -> Mapping[str, int]:
            return {**working.counters(now=time.time()), **guard.counters()}

        measured.read = lambda: of_worker(
            WorkerStanding(
                counters=counted(),
                revision=configuration.revision,
                seen=tally.seen(),
                latencies=tally.latencies(),
                circuits=guard.circuits(),
            )
        )
        status = running.status("worker", settings, revision=lambda: configuration.revision, counters=counted)
        await stack.enter_async_context(running.background(watch.run()))
        await stack.enter_async_context(running.background(load.run(stop)))
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        retries = DeadLetterRetries(
            PostgresDeadLetters(engine),
            workshop.shadowing,
            configuration,
            counters=counters,
            draw=random.random,
            interval=settings.dead_letter_interval,
            drain_seconds=settings.drain_seconds,
        )
        beside = [asyncio.create_task(report.run(stop)), asyncio.create_task(retries.run(stop))]

        def begun() -> None:
            # What was made so far stays for good.
            gc.freeze()
            gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])
            ready(settings.instance)

        try:
            await working.run(stop, ready=begun)
            await asyncio.gather(*beside)
        finally:
            await end(*beside)


def _ticking(log: JetStreamLog, instance: str) -> Tick:
    async def tick(partition: int, now: float) -> None:
        batch = CaptureBatch(router=instance, captures=(), ticked_at=now)
        await log.append(partition, batch, message_id=f"tick-{instance}-{partition}-{uuid.uuid4().hex}")

    return tick


def _shadowing(settings: Settings, stack: AsyncExitStack, guard: VersionGuard, tally: ShadowTally) -> Shadowing:
    gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes, tls=securing.calling(settings))
    stack.push_async_callback(gateway.aclose)
    comparer = ComparisonPool(processes=settings.comparison_processes)
    stack.push_async_callback(comparer.aclose)
    traces = tracing.begin("worker", settings, stack)
    return traces.shadowing(gateway=gateway, comparer=comparer, slots=CallSlots(), guard=guard, tally=tally)
