"""Weekly reports, and what only they ask of the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import webhook_outbox
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.tables import WeeklyReportRow
from multishadow_server.core import webhook_events, weeks
from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.weekly_report import Case
from multishadow_server.core.weeks import Week
from multishadow_server.service.ports import KeptReport, ReportLine, ReportTexts


class PostgresWeeklyReports:
    """A WeeklyReportStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def rollup_until(self, epoch_id: int, until: float) -> Rollup:
        """An epoch's counts of the buckets that started before a time, in seconds since the Unix epoch."""
        bound = {"epoch_id": epoch_id, "until": _moment(until)}
        async with reaching(self._engine, "reading counts"), self._engine.connect() as connection:
            rows = (await connection.execute(_ROLLUP, bound)).all()
        return Rollup({Cell(row.family, row.subject, row.level): int(row.n) for row in rows})

    async def cases(self, epoch_id: int, version: str, *, since: float, until: float, most: int) -> Sequence[Case]:
        """Stored comparisons of that time in which a candidate diverged, the least similar first."""
        bound = {
            "epoch_id": epoch_id,
            "version": version,
            "since": _moment(since),
            "until": _moment(until),
            "first_day": _moment(since).date(),
            "last_day": _moment(until).date(),
            "most": most,
        }
        async with reaching(self._engine, "reading divergent comparisons"), self._engine.connect() as connection:
            rows = (await connection.execute(_CASES, bound)).all()
        return [
            Case(
                id=row.id,
                request_id=row.request_id,
                received_at=row.received_at.timestamp(),
                distance=1 - (row.similarity or 0.0),
                detail=row.detail,
                verdict=ReviewVerdict(row.verdict) if row.verdict else None,
            )
            for row in rows
        ]

    async def live_counts(self, model: str, *, since: float, until: float) -> Sequence[tuple[float, float, int]]:
        """What routers counted of callers' requests in or over that time: (began, told last, requests)."""
        bound = {"model": model, "since": _moment(since), "until": _moment(until)}
        async with reaching(self._engine, "reading live counts"), self._engine.connect() as connection:
            rows = (await connection.execute(_LIVE, bound)).all()
        return [(row.first_at.timestamp(), row.seen_at.timestamp(), row.requests) for row in rows]

    async def keep(self, report: KeptReport) -> bool:
        """Keep a finished week's report, once: False when there is one already, which stays as it is."""
        line, texts = report.line, report.texts
        row = insert(WeeklyReportRow).values(
            week=str(line.week),
            model=line.model,
            built_at=_moment(line.built_at),
            headline=line.headline,
            html=texts.html,
            markdown=texts.markdown,
            document=texts.document,
        )
        once = row.on_conflict_do_nothing().returning(WeeklyReportRow.__table__.c.week)  # type: ignore[attr-defined]  # SQLModel has it
        async with reaching(self._engine, "keeping a weekly report"), self._engine.begin() as connection:
            is_new = (await connection.execute(once)).first() is not None
            if is_new:
                event = webhook_events.report_stored(line.model, str(line.week), line.headline, at=line.built_at)
                await webhook_outbox.tell(connection, event)
            return is_new

    async def kept(self, model: str, week: Week) -> KeptReport | None:
        """The report on that week; None when there is none."""
        async with reaching(self._engine, "reading a weekly report"), self._engine.connect() as connection:
            row = (await connection.execute(_ONE, {"model": model, "week": str(week)})).one_or_none()
        if row is None:
            return None
        return KeptReport(
            line=_line(row), texts=ReportTexts(html=row.html, markdown=row.markdown, document=row.document)
        )

    async def lines(self, model: str = "", *, before: ReportLine | None = None, most: int) -> Sequence[ReportLine]:
        """Reports that are kept, the newest week first, then by model."""
        bound: dict[str, Any] = {
            "model": model,
            "any_place": before is None,
            "week": "" if before is None else str(before.week),
            "after": "" if before is None else before.model,
            "most": most,
        }
        async with reaching(self._engine, "listing weekly reports"), self._engine.connect() as connection:
            rows = (await connection.execute(_LINES, bound)).all()
        return [_line(row) for row in rows]


def _line(row: Any) -> ReportLine:  # noqa: ANN401  SQLAlchemy's rows have no type
    return ReportLine(
        model=row.model, week=weeks.named(row.week), built_at=row.built_at.timestamp(), headline=row.headline
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_ROLLUP = text(
    """
    SELECT family, subject, level, sum(n) AS n FROM rollup
    WHERE epoch_id = :epoch_id AND bucket_start < :until
    GROUP BY family, subject, level
    """
)
# `day` is what the table is partitioned by: other weeks are not looked at.
_CASES = text(
    """
    SELECT kept.id, kept.request_id, kept.received_at, seen.similarity, seen.detail, review.verdict
    FROM comparison AS kept
    CROSS JOIN LATERAL jsonb_to_recordset(kept.observations)
        AS seen (version text, outcome text, similarity float, detail text)
    LEFT JOIN review ON review.comparison_id = kept.id AND review.version = seen.version
    WHERE kept.day BETWEEN :first_day AND :last_day AND kept.epoch_id = :epoch_id
        AND kept.received_at >= :since AND kept.received_at < :until
        AND seen.version = :version AND seen.outcome = 'diverged'
    ORDER BY seen.similarity, kept.id LIMIT :most
    """
)
_LIVE = text(
    """
    SELECT first_at, seen_at, requests FROM live_count
    WHERE model = :model AND seen_at >= :since AND first_at < :until
    """
)
_ONE = text("SELECT * FROM weekly_reports WHERE week = :week AND model = :model")
_LINES = text(
    """
    SELECT week, model, built_at, headline FROM weekly_reports
    WHERE :model IN ('', model) AND (:any_place OR week < :week OR (week = :week AND model > :after))
    ORDER BY week DESC, model LIMIT :most
    """
)
