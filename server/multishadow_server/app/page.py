"""The web page's parts, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.routing import BaseRoute

from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.audit import PostgresAudit
from multishadow_server.adapters.postgres.comparison_lists import PostgresComparisonLists
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.dead_letters import PostgresDeadLetters
from multishadow_server.adapters.postgres.labels import PostgresLabels
from multishadow_server.adapters.postgres.probes import PostgresProbes
from multishadow_server.adapters.postgres.promotions import PostgresLiveFigures, PostgresPromotions
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts
from multishadow_server.adapters.postgres.sessions import PostgresSessions
from multishadow_server.adapters.stored_messages import ProtobufStoredMessages
from multishadow_server.app import running
from multishadow_server.app.door import Door
from multishadow_server.app.reporting import Reporting
from multishadow_server.app.watchers import Watchers
from multishadow_server.entrypoints.web import application
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.experiment_figures import ExperimentFigures
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.service.live_window import LiveWindow
from multishadow_server.service.ports import VersionProbe
from multishadow_server.settings import Settings


async def page_routes(
    settings: Settings,
    engine: AsyncEngine,
    pages: Pages,
    *,
    backlog: JetStreamBacklog,
    probe: VersionProbe,
    watchers: Watchers,
    reporting: Reporting,
    door: Door,
    warnings: Callable[[], Sequence[str]],
    stop: asyncio.Event,
    stack: AsyncExitStack,
) -> Sequence[BaseRoute]:
    """The page under `/ui/`; it works out figures in the background until `stop`."""
    desk = Desk(
        store=PostgresControl(engine),
        probe=probe,
        labels=PostgresLabels(engine, AnswerCodec(), hash_key=settings.hash_key),
        reviews=PostgresReviews(engine),
        backlog=backlog,
        alarms=PostgresAlarms(engine),
        probes=PostgresProbes(engine),
        rollouts=PostgresRollouts(engine),
        dead_letters=PostgresDeadLetters(engine),
        sessions=PostgresSessions(engine),
        audit=PostgresAudit(engine),
        promotions=PostgresPromotions(engine),
        live=LiveWindow(PostgresLiveFigures(engine)),
        warnings=warnings,
        comparisons=PostgresComparisonLists(engine),
        messages=ProtobufStoredMessages(),
        gateway=watchers.gateway,
        comparer=watchers.comparer,
        weekly_reports=reporting.store,
        report_renderer=reporting.renderer,
        hourly_counts_days=settings.hourly_counts_days,
    )
    stack.push_async_callback(desk.recent.aclose)
    await stack.enter_async_context(running.background(ExperimentFigures(desk).keep_at_hand(stop)))
    return application.routes(desk, pages, doorkeeper=door.doorkeeper, hosts=settings.ui_host_names)
