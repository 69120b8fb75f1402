"""What control does to keep the database in bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.bounds import PostgresBounds
from multishadow_server.adapters.postgres.condensing import RollupCondensing
from multishadow_server.adapters.postgres.retention import PostgresRetention
from multishadow_server.app import running
from multishadow_server.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Upkeep:
    """What goes on: dropping what is old, and what is too much."""

    retention: PostgresRetention
    bounds: PostgresBounds

    def counters(self) -> Mapping[str, int]:
        """What was dropped."""
        return {**self.retention.counters(), **self.bounds.counters()}


async def keep_up(settings: Settings, engine: AsyncEngine, stop: asyncio.Event, stack: AsyncExitStack) -> Upkeep:
    """Drop what is old or too much, and add up old counts, until `stop`."""
    retention = PostgresRetention(engine, keep_days=settings.retention_days)
    bounds = PostgresBounds(engine, most_bytes=settings.retention_bytes)
    condensing = RollupCondensing(engine, after_days=settings.hourly_counts_days)
    for each in (retention, bounds, condensing):
        await stack.enter_async_context(running.background(each.run(stop)))
    return Upkeep(retention=retention, bounds=bounds)
