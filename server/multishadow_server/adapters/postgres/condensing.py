"""Counts of epochs that ended long ago, added up: their totals stay, their hours go.

A busy experiment counts into tens of thousands of rows an hour's bucket, and a report on it needs the hours for as long
as somebody asks how it went over time. Afterwards one bucket says the same, in a hundredth of the space.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.errors import MultishadowError
from multishadow_server.service.ending import set_within

INTERVAL_SECONDS = 3600.0
# Buckets that one round adds up, each in a transaction of its own; a fortnight's hours are 336.
BUCKETS_PER_ROUND = 1_000

_logger = logging.getLogger(__name__)


class RollupCondensing:
    """Adds the buckets of long closed epochs up; several processes may do so at once.

    Args:
        engine: see `open_engine`.
        after_days: days for which a closed epoch keeps its hours. Labels and late captures come sooner.
    """

    def __init__(self, engine: AsyncEngine, *, after_days: int) -> None:
        self._engine = engine
        self._after_days = after_days

    async def run(self, stop: asyncio.Event) -> None:
        """Do so now and every hour, until `stop` is set. What could not be done is done later."""
        while not stop.is_set():
            try:
                await self.condense()
            except MultishadowError as error:
                _logger.warning("old counts are added up later: %s", error)
            except Exception:
                _logger.exception("old counts cannot be added up")
            await set_within(stop, INTERVAL_SECONDS)

    async def condense(self) -> int:
        """Add up to a thousand buckets to the first ones of their epochs; returns how many. Raises StoreUnavailable."""
        for done in range(BUCKETS_PER_ROUND):
            async with reaching(self._engine, "adding old counts up"), self._engine.begin() as connection:
                found = (await connection.execute(_NEXT, {"days": self._after_days})).one_or_none()
                if found is None:
                    return done
                await connection.execute(_MERGE, found._asdict())
        return BUCKETS_PER_ROUND


# The epoch's row is locked, so that two processes do not wait for each other's counts.
_NEXT = text(
    """
    SELECT epoch.id AS epoch_id, first_bucket, later_bucket
    FROM epoch
    CROSS JOIN LATERAL (SELECT min(bucket_start) AS first_bucket FROM rollup WHERE epoch_id = epoch.id) AS first
    CROSS JOIN LATERAL (
        SELECT min(bucket_start) AS later_bucket FROM rollup WHERE epoch_id = epoch.id AND bucket_start > first_bucket
    ) AS later
    WHERE closed_at < clock_timestamp() - make_interval(days => :days) AND later_bucket IS NOT NULL
    LIMIT 1
    FOR UPDATE OF epoch SKIP LOCKED
    """
)
_MERGE = text(
    """
    WITH gone AS (
        DELETE FROM rollup WHERE epoch_id = :epoch_id AND bucket_start = :later_bucket
        RETURNING family, subject, level, n
    )
    INSERT INTO rollup AS present (epoch_id, bucket_start, family, subject, level, n)
    SELECT :epoch_id, :first_bucket, family, subject, level, n FROM gone
    ON CONFLICT (epoch_id, bucket_start, family, subject, level) DO UPDATE SET n = present.n + excluded.n
    """
)
