"""Weekly reports: what writes and keeps them, put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.weekly_reports import PostgresWeeklyReports
from multishadow_server.adapters.report_rendering import WeeklyReportRenderer
from multishadow_server.app import running
from multishadow_server.core import weeks
from multishadow_server.service.weekly_rounds import WeeklyRounds
from multishadow_server.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Reporting:
    """Where reports are, what writes them, and the rounds that go on; None where none are made by schedule."""

    store: PostgresWeeklyReports
    renderer: WeeklyReportRenderer
    rounds: WeeklyRounds | None

    def counters(self) -> Mapping[str, int]:
        """What was done since the start."""
        return {} if self.rounds is None else self.rounds.counters()


async def keep_reporting(
    settings: Settings, engine: AsyncEngine, stop: asyncio.Event, stack: AsyncExitStack
) -> Reporting:
    """Make the report on every week that is over, until `stop`."""
    store, renderer = PostgresWeeklyReports(engine), WeeklyReportRenderer()
    due = weeks.due_of(settings.weekly_report_at)
    if due is None:
        return Reporting(store=store, renderer=renderer, rounds=None)
    rounds = WeeklyRounds(
        PostgresControl(engine),
        store,
        renderer,
        due=due,
        oldest_days=settings.hourly_counts_days,
        clock=time.time,
    )
    await stack.enter_async_context(running.background(rounds.run(stop)))
    return Reporting(store=store, renderer=renderer, rounds=rounds)
