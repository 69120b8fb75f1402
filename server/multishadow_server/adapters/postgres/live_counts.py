"""Where routers keep what they count of live requests."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.tables import LiveCountRow
from multishadow_server.core.live_counts import LiveCounts, Share


class PostgresLiveCounts:
    """A LiveCountStore.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def save(self, run: str, counts: Mapping[Share, LiveCounts]) -> None:
        """Put the counts of one router since it began in place of those that it saved before."""
        now = func.clock_timestamp()
        rows = [
            {
                "model": share.model,
                "version": share.version,
                "revision": share.revision,
                "run": run,
                "requests": count.requests,
                "failed": count.failed,
                "covered": count.covered,
                "latencies": dict(count.latencies),
                "first_at": now,
                "seen_at": now,
            }
            # In one order, so that nobody waits for somebody who waits for them.
            for share, count in sorted(counts.items())
        ]
        statement = insert(LiveCountRow).values(rows)
        grown = {name: statement.excluded[name] for name in ("requests", "failed", "covered", "latencies", "seen_at")}
        upsert = statement.on_conflict_do_update(index_elements=["model", "revision", "version", "run"], set_=grown)
        async with reaching(self._engine, "saving live counts"), self._engine.begin() as connection:
            await connection.execute(upsert)
