"""Reading what routers count of live requests, as it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.core.live_rates import Counted

# Counts of runs and revisions that are over stay in the table for good; whoever counts now was seen just now.
_TOTALS = text(
    """
    SELECT model, version, revision, run, requests,
           first_at > clock_timestamp() - make_interval(secs => :began_within) AS fresh
    FROM live_count
    WHERE model = ANY(:models) AND seen_at > clock_timestamp() - interval '1 minute'
    """
)


class PostgresLiveTotals:
    """A LiveCountReader.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def requests(
        self, models: Sequence[str], *, began_within: float
    ) -> tuple[Mapping[Counted, int], frozenset[Counted]]:
        """Live requests of these models by who counts them, and whose count began within so many seconds."""
        single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        async with reaching(self._engine, "reading live counts"), single.connect() as connection:
            rows = (await connection.execute(_TOTALS, {"models": list(models), "began_within": began_within})).all()
        keyed = [(Counted(row.model, row.version, row.revision, row.run), row) for row in rows]
        return {key: row.requests for key, row in keyed}, frozenset(key for key, row in keyed if row.fresh)
