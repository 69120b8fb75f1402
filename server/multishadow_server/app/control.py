"""Control's parts, put together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.flagd_flags import SHARED_CONTEXT, FlagdFlags
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.payload_rewriting import ProtobufPayloadRewriter
from multishadow_server.adapters.postgres.access import PostgresTokens
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.audit import PostgresAudit
from multishadow_server.adapters.postgres.bounds import PostgresBounds
from multishadow_server.adapters.postgres.condensing import RollupCondensing
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.dead_letters import PostgresDeadLetters
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.adapters.postgres.probes import PostgresProbes
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.postgres.retention import PostgresRetention
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts
from multishadow_server.adapters.postgres.sessions import PostgresSessions
from multishadow_server.adapters.postgres.stored_requests import PostgresStoredRequests
from multishadow_server.adapters.postgres.traffic import PostgresTraffic
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.app import door as guard
from multishadow_server.app import running, securing
from multishadow_server.core.alarm_rules import AlarmLimits
from multishadow_server.entrypoints import answering, probes
from multishadow_server.entrypoints.access import AccessServicer
from multishadow_server.entrypoints.alarms import AlarmServicer
from multishadow_server.entrypoints.control import ControlServicer
from multishadow_server.entrypoints.control_server import ControlServer
from multishadow_server.entrypoints.dead_letters import DeadLetterServicer
from multishadow_server.entrypoints.flagd import FlagdServices
from multishadow_server.entrypoints.flags import FlagServicer
from multishadow_server.entrypoints.http import HttpServer, application
from multishadow_server.entrypoints.ofrep import Ofrep
from multishadow_server.entrypoints.privacy import PrivacyServicer
from multishadow_server.entrypoints.replay import ReplayServicer
from multishadow_server.entrypoints.rollouts import RolloutServicer
from multishadow_server.entrypoints.sessions import SessionServicer
from multishadow_server.entrypoints.shadowing import ShadowingServicer
from multishadow_server.errors import InvalidInput
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.flag_feed import FlagFeed
from multishadow_server.service.housekeeping import Housekeeping
from multishadow_server.service.probing import ProbeRounds
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.service.rollout_rounds import RolloutRounds
from multishadow_server.service.watching import AlarmRounds
from multishadow_server.settings import Settings

_log = logging.getLogger(__name__)
MISSED_REPORTS = 10
"""Reports that a process leaves out before it is missed."""


async def run(
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
    listening: list[str] = []
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        # It does not wait: every call says what to do, and what can be done without is done.
        await stack.enter_async_context(running.background(running.usable_schema(engine, stop)))
        serving = securing.serving(settings)
        backlog = JetStreamBacklog(settings.nats_url, settings.log_name, tls=securing.nats(settings))
        stack.push_async_callback(backlog.aclose)
        store = PostgresControl(engine)
        labels = PostgresLabels(engine, AnswerCodec(), hash_key=settings.hash_key)
        # What keeps serving and rolling back has to go on when nothing can be read of experiments.
        flags_only = PostgresConfiguration(engine, experiments=False)
        housekeeping = Housekeeping(store, flags_only, labels, clock=time.time)
        feed = await _flag_feed(settings, flags_only, stack)
        flagd = FlagdServices(feed, shared_context=SHARED_CONTEXT)
        rollouts = PostgresRollouts(engine)
        rounds = RolloutRounds(store, rollouts, interval=settings.rollout_interval)
        probe = GrpcVersionProbe(securing.calling(settings))
        tokens = PostgresTokens(engine)
        door = await guard.open_door(settings, tokens, stop, stack)
        alarms, known_answers = PostgresAlarms(engine), PostgresProbes(engine)
        gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes, tls=securing.calling(settings))
        stack.push_async_callback(gateway.aclose)
        comparer = ComparisonPool(processes=settings.comparison_processes)
        stack.push_async_callback(comparer.aclose)
        # Who watches must never have the connections that a rollback needs.
        watch_engine = open_engine(settings.database_url, pool_size=2)
        stack.push_async_callback(watch_engine.dispose)
        asking = ProbeRounds(
            PostgresControl(watch_engine),
            PostgresProbes(watch_engine),
            gateway,
            comparer,
            interval=settings.watch_interval,
        )
        watching = _watching(settings, watch_engine)
        server = ControlServer(
            ControlServicer(
                store=store,
                probe=probe,
                labels=labels,
                reviews=PostgresReviews(engine),
                backlog=backlog,
                warnings=lambda: guard.warnings(settings, listening, serving),
                alarms=alarms,
                probes=known_answers,
            ),
            FlagServicer(store),
            RolloutServicer(store=store, records=rollouts, probe=probe),
            PrivacyServicer(
                store=store,
                traffic=PostgresTraffic(engine, ProtobufPayloadRewriter(), hash_key=settings.hash_key),
                backlog=backlog,
            ),
            AccessServicer(tokens, PostgresAudit(engine), changed=door.changed),
            ShadowingServicer(store),
            SessionServicer(store=store, records=PostgresSessions(engine)),
            AlarmServicer(store=store, alarms=alarms, probes=known_answers),
            ReplayServicer(store=store, stored=PostgresStoredRequests(engine), gateway=gateway, comparer=comparer),
            DeadLetterServicer(PostgresDeadLetters(engine)),
            later=flagd,
            credentials=None if serving is None else serving.grpc_credentials(),
            describe=settings.reflection == "on",
            interceptors=door.interceptors,
        )
        ofrep = Ofrep(feed, evaluations_per_second=settings.ofrep_evaluations_per_second)
        http = HttpServer(
            door.guarding(application(probes.routes(feed, leaving=stop.is_set), ofrep.routes())),
            drain_seconds=settings.drain_seconds,
            tls=None if serving is None else serving.ssl_context(),
        )

        retention = PostgresRetention(engine, keep_days=settings.retention_days)
        bounds = PostgresBounds(engine, most_bytes=settings.retention_bytes)

        def counters() -> Mapping[str, int]:
            kept = {**retention.counters(), **bounds.counters(), **door.counters(), **answering.refused}
            watched = {**asking.counters(), **watching.counters()}
            return {**housekeeping.counters(), **feed.counters(), **rounds.counters(), **kept, **watched}

        status = running.status("control", settings, revision=lambda: housekeeping.revision, counters=counters)
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        await stack.enter_async_context(running.background(report.run(stop), linger=running.WITHDRAW_SECONDS))
        await stack.enter_async_context(running.background(housekeeping.run(stop)))
        await stack.enter_async_context(running.background(rounds.run(stop)))
        await stack.enter_async_context(running.background(asking.run(stop)))
        await stack.enter_async_context(running.background(watching.run(stop)))
        await stack.enter_async_context(running.background(retention.run(stop)))
        await stack.enter_async_context(running.background(bounds.run(stop)))
        condensing = RollupCondensing(engine, after_days=settings.hourly_counts_days)
        await stack.enter_async_context(running.background(condensing.run(stop)))
        stack.push_async_callback(http.stop)
        stack.push_async_callback(server.stop, settings.drain_seconds)
        # Before both: streams would hold them up until their time to drain is over.
        stack.callback(feed.close)
        http_address = await http.start(settings.http_listen)
        address = await server.start(settings.control_listen)
        listening.extend((address, http_address))
        for warning in guard.warnings(settings, listening, serving):
            _log.warning("%s", warning)
        await stack.enter_async_context(running.background(_announce_flags(feed, server, flagd)))
        http_ready(http_address)
        ready(address)
        await stop.wait()
        await server.leave()
        await asyncio.sleep(settings.drain_delay)


def _watching(settings: Settings, engine: AsyncEngine) -> AlarmRounds:
    limits = AlarmLimits(
        silent_after=settings.alarm_silent_after,
        window=settings.alarm_window,
        stale_after=settings.flag_stale_after,
        missing_after=MISSED_REPORTS * settings.report_interval,
    )
    return AlarmRounds(
        PostgresControl(engine),
        PostgresAlarms(engine),
        PostgresProbes(engine),
        limits=limits,
        clear_after=settings.alarm_clear_after,
        interval=settings.watch_interval,
    )


async def _flag_feed(settings: Settings, source: PostgresConfiguration, stack: AsyncExitStack) -> FlagFeed[FlagdFlags]:
    """The flags that are served, following the configuration."""
    watch = ConfigurationWatch(
        source,
        on_change=lambda configuration: feed.load(configuration),  # noqa: PLW0108  it is made below
        check_interval=settings.flag_check_interval,
    )
    feed = FlagFeed(FlagdFlags, age=lambda: watch.age, stale_after=settings.flag_stale_after)
    await stack.enter_async_context(running.background(watch.run()))
    return feed


async def _announce_flags(feed: FlagFeed[FlagdFlags], server: ControlServer, services: FlagdServices) -> None:
    """Say that flags are served, once they are."""
    await feed.first_read.wait()
    await server.now_serve(services)
