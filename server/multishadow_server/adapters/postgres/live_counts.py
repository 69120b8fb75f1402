"""Where routers keep what they count of live requests."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
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
        rows = [
            {
                "model": share.model,
                "version": share.version,
                "revision": share.revision,
                "run": run,
                "requests": count.requests,
                "failed": count.failed,
                "covered": count.covered,
                "latencies": json.dumps(dict(count.latencies)),
            }
            # In one order, so that nobody waits for somebody who waits for them.
            for share, count in sorted(counts.items())
        ]
        async with reaching(self._engine, "saving live counts"), self._engine.begin() as connection:
            await connection.execute(_SAVE, rows)


# Written out: every router says it every second, and to compose a statement takes longer than to run it.
_SAVE = text(
    """
    INSERT INTO live_count
        (model, version, revision, run, requests, failed, covered, latencies, first_at, seen_at)
    VALUES (:model, :version, :revision, :run, :requests, :failed, :covered, CAST(:latencies AS jsonb),
            clock_timestamp(), clock_timestamp())
    ON CONFLICT (model, revision, version, run) DO UPDATE SET
        requests = EXCLUDED.requests, failed = EXCLUDED.failed, covered = EXCLUDED.covered,
        latencies = EXCLUDED.latencies, seen_at = EXCLUDED.seen_at
    """
)
