"""What control watches with: known-answer probes, alarms, and how versions are called for both and for replays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.probes import PostgresProbes
from multishadow_server.app import running, securing
from multishadow_server.core.alarm_rules import AlarmLimits
from multishadow_server.service.probing import ProbeRounds
from multishadow_server.service.watching import AlarmRounds
from multishadow_server.settings import Settings

MISSED_REPORTS = 10
"""Reports that a process leaves out before it is missed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watchers:
    """The rounds that go on, and what calls and compares."""

    gateway: GrpcModelGateway
    comparer: ComparisonPool
    asking: ProbeRounds
    watching: AlarmRounds

    def counters(self) -> Mapping[str, int]:
        """Of both."""
        return {**self.asking.counters(), **self.watching.counters()}


async def watch(settings: Settings, database_url: str, stop: asyncio.Event, stack: AsyncExitStack) -> Watchers:
    """Ask probes and look for alarms until `stop`."""
    gateway = GrpcModelGateway(max_message_bytes=settings.max_message_bytes, tls=securing.calling(settings))
    stack.push_async_callback(gateway.aclose)
    comparer = ComparisonPool(processes=settings.comparison_processes)
    stack.push_async_callback(comparer.aclose)
    # Who watches must never have the connections that a rollback needs.
    engine = open_engine(database_url, pool_size=2)
    stack.push_async_callback(engine.dispose)
    store, probes = PostgresControl(engine), PostgresProbes(engine)
    asking = ProbeRounds(store, probes, gateway, comparer, interval=settings.watch_interval)
    watching = _alarms(settings, engine)
    await stack.enter_async_context(running.background(asking.run(stop)))
    await stack.enter_async_context(running.background(watching.run(stop)))
    return Watchers(gateway=gateway, comparer=comparer, asking=asking, watching=watching)


def _alarms(settings: Settings, engine: AsyncEngine) -> AlarmRounds:
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
