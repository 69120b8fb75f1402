"""Reading what was made live, and what callers get of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.live_figures import LiveReading
from multishadow_server.core.live_rates import Counted
from multishadow_server.service.ports import PromotionLine


class PostgresPromotions:
    """A PromotionHistory. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def history(self, model: str, *, before: int | None, most: int) -> Sequence[PromotionLine]:
        """The newest of a model's whose id is below `before`, newest first."""
        wanted = {"model": model, "before": before, "most": most}
        return [_line(row) for row in await self._rows("reading promotions", _HISTORY, wanted)]

    async def standing(self) -> Mapping[str, PromotionLine]:
        """The newest of each model that nobody took back."""
        return {row["model"]: _line(row) for row in await self._rows("reading promotions", _STANDING, {})}

    async def _rows(self, doing: str, query: Any, wanted: Mapping[str, Any]) -> Sequence[RowMapping]:  # noqa: ANN401  a TextClause of any columns
        async with reaching(self._engine, doing), self._engine.connect() as connection:
            return (await connection.execute(query, wanted)).mappings().all()


class PostgresLiveFigures:
    """A LiveFigureReader. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def now(self) -> float:
        """The store's time, seconds since the Unix epoch."""
        async with reaching(self._engine, "reading the time"), self._engine.connect() as connection:
            return float((await connection.execute(_NOW)).scalar_one())

    async def reading(self) -> LiveReading:
        """Counts of whoever counted something in the last minutes."""
        async with reaching(self._engine, "reading live counts"), self._engine.connect() as connection:
            rows = (await connection.execute(_COUNTS)).mappings().all()
            now = float((await connection.execute(_NOW)).scalar_one())
        keyed = [(Counted(row["model"], row["version"], row["revision"], row["run"]), row) for row in rows]
        return LiveReading(
            at=now,
            counts={
                key: LiveCounts(
                    requests=row["requests"], failed=row["failed"], covered=row["covered"], latencies=row["latencies"]
                )
                for key, row in keyed
            },
            began={key: float(row["began"]) for key, row in keyed},
        )


def _line(row: RowMapping) -> PromotionLine:
    return PromotionLine(
        id=row["id"],
        model=row["model"],
        version=row["version"],
        previous=row["previous"],
        revision=row["revision"],
        at=row["promoted_at"].timestamp(),
        by=row["promoted_by"],
        reason=row["reason"] or "",
        rolled_back_revision=row["rolled_back_revision"],
        rolled_back_at=row["rolled_back_at"].timestamp() if row["rolled_back_at"] else None,
        rolled_back_by=row["rolled_back_by"] or "",
    )


# Why, and who took it back when, stands with the flags that were written for it.
_LINE = """
    SELECT p.id, p.model, p.version, p.previous, p.revision, p.promoted_at, p.promoted_by, p.rolled_back_revision,
           made.reason, back.changed_at AS rolled_back_at, back.changed_by AS rolled_back_by
    FROM promotion AS p
    LEFT JOIN flag_revision AS made ON made.key = p.model || '.' || p.version AND made.revision = p.revision
    LEFT JOIN LATERAL (
        SELECT changed_at, changed_by FROM flag_revision WHERE revision = p.rolled_back_revision LIMIT 1
    ) AS back ON true
"""
_HISTORY = text(
    f"{_LINE} WHERE p.model = :model AND (CAST(:before AS bigint) IS NULL OR p.id < :before) "
    "ORDER BY p.id DESC LIMIT :most"
)
_STANDING = text(
    f"{_LINE} WHERE p.id IN (SELECT max(id) FROM promotion WHERE rolled_back_revision IS NULL GROUP BY model)"  # noqa: S608  our own text
)
_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
# A version is shown by what it answered in the last minute: counts that rested for ten have no part in that.
_COUNTS = text(
    "SELECT model, version, revision, run, requests, failed, covered, latencies, extract(epoch FROM first_at) AS began "
    "FROM live_count WHERE seen_at > clock_timestamp() - interval '10 minutes'"
)
