"""Control's parts, put together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.flagd_flags import SHARED_CONTEXT, FlagdFlags
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.payload_rewriting import ProtobufPayloadRewriter
from multishadow_server.adapters.postgres.access import PostgresTokens
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.audit import PostgresAudit
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.dead_letters import PostgresDeadLetters
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.exports import PostgresAnswers
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.adapters.postgres.probes import PostgresProbes
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts
from multishadow_server.adapters.postgres.sessions import PostgresSessions
from multishadow_server.adapters.postgres.stored_requests import PostgresStoredRequests
from multishadow_server.adapters.postgres.traffic import PostgresTraffic
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.app import door as guard
from multishadow_server.app import running, securing
from multishadow_server.app.control_metrics import measure
from multishadow_server.app.page import page_routes
from multishadow_server.app.reporting import Reporting, keep_reporting
from multishadow_server.app.upkeep import Upkeep, keep_up
from multishadow_server.app.watchers import Watchers, watch
from multishadow_server.app.webhooks import Telling, tell
from multishadow_server.entrypoints import answering, probes
from multishadow_server.entrypoints.access import AccessServicer
from multishadow_server.entrypoints.alarms import AlarmServicer
from multishadow_server.entrypoints.control import ControlServicer
from multishadow_server.entrypoints.control_server import ControlServer, Services
from multishadow_server.entrypoints.dead_letters import DeadLetterServicer
from multishadow_server.entrypoints.exports import ExportServicer
from multishadow_server.entrypoints.flagd import FlagdServices
from multishadow_server.entrypoints.flags import FlagServicer
from multishadow_server.entrypoints.http import HttpServer, application
from multishadow_server.entrypoints.ofrep import Ofrep
from multishadow_server.entrypoints.privacy import PrivacyServicer
from multishadow_server.entrypoints.replay import ReplayServicer
from multishadow_server.entrypoints.reports import ReportServicer
from multishadow_server.entrypoints.rollouts import RolloutServicer
from multishadow_server.entrypoints.sessions import SessionServicer
from multishadow_server.entrypoints.shadowing import ShadowingServicer
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.errors import InvalidInput, Unavailable
from multishadow_server.service.configuration_watch import ConfigurationWatch
from multishadow_server.service.exporting import Exports
from multishadow_server.service.flag_feed import FlagFeed
from multishadow_server.service.housekeeping import Housekeeping
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.service.rollout_rounds import RolloutRounds
from multishadow_server.settings import Settings

_log = logging.getLogger(__name__)

# For the page, exports and weekly reports together: what they ask takes longest.
PAGE_CONNECTIONS = 6


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None],
    http_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the control API and flags until `stop`, end experiments whose time box is over, and go on with rollouts.

    It starts, and answers UNAVAILABLE, while the database is away; the log it can do without. Flags that were read
    once are served on. `http_ready` gets the bound address of HTTP, before `ready` gets that of gRPC:
    both when flags can be asked for, or after a moment when the database does not give them.

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
        serving = securing.serving(settings)
        warnings = partial(guard.warnings, settings, listening, serving)
        # It does not wait: every call says what to do, and what can be done without is done.
        await stack.enter_async_context(running.background(running.usable_schema(engine, stop)))
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
        tokens = PostgresTokens(engine)
        door = await guard.open_door(settings, tokens, stop, stack)
        work = await _own_work(settings, settings.database_url, engine, stop, stack)
        probe = GrpcVersionProbe(securing.calling(settings))
        server = ControlServer(
            ControlServicer(
                store=store,
                probe=probe,
                labels=labels,
                reviews=PostgresReviews(engine),
                backlog=backlog,
                warnings=warnings,
                alarms=PostgresAlarms(engine),
                probes=PostgresProbes(engine),
            ),
            RolloutServicer(store=store, records=rollouts, probe=probe),
            AccessServicer(tokens, PostgresAudit(engine), changed=door.changed),
            *_servicers(settings, engine, backlog, work),
            _report_servicer(settings, store, work.reporting),
            work.telling.servicer,
            later=flagd,
            credentials=None if serving is None else serving.grpc_credentials(),
            describe=settings.reflection == "on",
            interceptors=door.interceptors,
        )
        measured = measure(settings.database_url, feed, stale_after=settings.flag_stale_after, stack=stack)
        pages = Pages(tokens=door.doorkeeper is not None)
        page = await page_routes(
            settings,
            work.for_reading,
            pages,
            backlog=backlog,
            probe=probe,
            watchers=work.watchers,
            reporting=work.reporting,
            door=door,
            warnings=warnings,
            stop=stop,
            stack=stack,
        )
        ofrep = Ofrep(feed, evaluations_per_second=settings.ofrep_evaluations_per_second)
        http = HttpServer(
            door.guarding(
                application(
                    probes.routes(feed, leaving=stop.is_set),
                    ofrep.routes(),
                    measured.routes(),
                    page,
                ),
                pages,
            ),
            drain_seconds=settings.drain_seconds,
            tls=None if serving is None else serving.ssl_context(),
        )

        counted = (housekeeping, feed, rounds, work.reporting, work.telling, work.upkeep, work.watchers, door)

        def counters() -> Mapping[str, int]:
            return {name: value for part in counted for name, value in part.counters().items()} | answering.refused

        status = running.status(
            "control", settings, revision=lambda: housekeeping.revision, counters=measured.counting(counters)
        )
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        await stack.enter_async_context(running.background(report.run(stop), linger=running.WITHDRAW_SECONDS))
        await stack.enter_async_context(running.background(housekeeping.run(stop)))
        await stack.enter_async_context(running.background(rounds.run(stop)))
        stack.push_async_callback(http.stop)
        stack.push_async_callback(server.stop, settings.drain_seconds)
        # Before both: streams would hold them up until their time to drain is over.
        stack.callback(feed.close)
        http_address = await http.start(settings.http_listen)
        address = await server.start(settings.control_listen)
        listening.extend((address, http_address))
        _log_each(warnings())
        await _serve_flags(feed, server, flagd, stack)
        http_ready(http_address)
        ready(address)
        await stop.wait()
        await server.leave()
        await asyncio.sleep(settings.drain_delay)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What control does by itself, beside answering.

    `for_reading` is a pool of its own: who looks must not take the connections that a rollback needs.
    """

    for_reading: AsyncEngine
    watchers: Watchers
    upkeep: Upkeep
    reporting: Reporting
    telling: Telling


async def _own_work(
    settings: Settings, database_url: str, engine: AsyncEngine, stop: asyncio.Event, stack: AsyncExitStack
) -> _Work:
    """Begin it; it ends with the stack."""
    for_reading = open_engine(database_url, pool_size=PAGE_CONNECTIONS)
    stack.push_async_callback(for_reading.dispose)
    return _Work(
        for_reading=for_reading,
        watchers=await watch(settings, database_url, stop, stack),
        upkeep=await keep_up(settings, engine, stop, stack),
        reporting=await keep_reporting(settings, for_reading, stop, stack),
        telling=await tell(database_url, stop, stack),
    )


def _log_each(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _log.warning("%s", warning)


def _servicers(settings: Settings, engine: AsyncEngine, backlog: JetStreamBacklog, work: _Work) -> tuple[Services, ...]:
    """Those that need little more than the store."""
    store = PostgresControl(engine)
    traffic = PostgresTraffic(engine, ProtobufPayloadRewriter(), hash_key=settings.hash_key)
    stored = PostgresStoredRequests(engine)
    exports = Exports(
        store=store, answers=PostgresAnswers(work.for_reading), seals=traffic, rewriter=ProtobufPayloadRewriter()
    )
    return (
        FlagServicer(store),
        PrivacyServicer(store=store, traffic=traffic, backlog=backlog),
        ShadowingServicer(store),
        SessionServicer(store=store, records=PostgresSessions(engine)),
        AlarmServicer(store=store, alarms=PostgresAlarms(engine), probes=PostgresProbes(engine)),
        ReplayServicer(store=store, stored=stored, gateway=work.watchers.gateway, comparer=work.watchers.comparer),
        DeadLetterServicer(PostgresDeadLetters(engine)),
        ExportServicer(store=store, exports=exports),
    )


def _report_servicer(settings: Settings, store: PostgresControl, reporting: Reporting) -> ReportServicer:
    return ReportServicer(
        store=store,
        reports=reporting.store,
        renderer=reporting.renderer,
        oldest_days=settings.hourly_counts_days,
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


async def _serve_flags(
    feed: FlagFeed[FlagdFlags], server: ControlServer, services: FlagdServices, stack: AsyncExitStack
) -> None:
    """Return when flags are served, or after a moment: who hears that control is ready may ask for one at once."""
    await stack.enter_async_context(running.background(_announce_flags(feed, server, services)))
    with suppress(Unavailable):
        await feed.first()


async def _announce_flags(feed: FlagFeed[FlagdFlags], server: ControlServer, services: FlagdServices) -> None:
    """Say that flags are served, once they are."""
    await feed.first_read.wait()
    await server.now_serve(services)
