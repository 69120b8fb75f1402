"""Stored comparisons for people to look at, and what they said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres import audit
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.observations import add_rollups
from multishadow_server.adapters.postgres.records import epoch_of, observation_of
from multishadow_server.adapters.postgres.tables import ComparisonRow, EpochRow, ExperimentRow, ReviewRow
from multishadow_server.core import reviews
from multishadow_server.core.labels import negative
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.reviews import Review, ReviewVerdict
from multishadow_server.core.rollup import Rollup
from multishadow_server.service.ports import ComparisonLine, KeptComparison


class PostgresReviews:
    """A ReviewStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def comparisons(self, epoch_id: int, *, version: str, agreeing: bool, most: int) -> Sequence[ComparisonLine]:
        """Stored comparisons of an epoch, a line for each candidate's answer; the least similar answers first.

        Args:
            epoch_id: the epoch.
            version: whose answers; empty for all candidates'.
            agreeing: the uniform sample of those that agreed, newest first, instead of those that diverged.
            most: at most so many.
        """
        bound = {"epoch_id": epoch_id, "version": version, "most": most}
        async with reaching(self._engine, "listing comparisons"), self._engine.connect() as connection:
            rows = () if agreeing else await _least_similar(connection, bound)
            if len(rows) < most:
                rows = (await connection.execute(_AGREEING if agreeing else _DIVERGENT, bound)).all()
        return [
            ComparisonLine(
                id=row.id,
                request_id=row.request_id,
                received_at=row.received_at.timestamp(),
                version=row.version,
                similarity=row.similarity,
                detail=row.detail,
                verdict=ReviewVerdict(row.verdict) if row.verdict else None,
            )
            for row in rows
        ]

    async def comparison(self, comparison_id: int) -> KeptComparison | None:
        """One stored comparison with everything that was kept of it; None when there is none."""
        wanted = (
            select(ComparisonRow, EpochRow, ExperimentRow.model, ExperimentRow.bucket_seconds)
            .join(EpochRow, col(EpochRow.id) == ComparisonRow.epoch_id)
            .join(ExperimentRow, col(ExperimentRow.id) == EpochRow.experiment_id)
            .where(ComparisonRow.id == comparison_id)
        )
        reviewed = select(ReviewRow).where(ReviewRow.comparison_id == comparison_id)
        async with reaching(self._engine, "reading a comparison"), AsyncSession(self._engine) as session:
            found = (await session.exec(wanted)).first()
            said = [_review(row) for row in await session.exec(reviewed)]
        if found is None:
            return None
        row, epoch, model, seconds = found
        pairs = zip(row.observations, row.shadow_responses, strict=True)
        return KeptComparison(
            id=comparison_id,
            epoch=epoch_of(epoch, model=model, bucket_seconds=seconds),
            request_id=row.request_id,
            received_at=row.received_at.timestamp(),
            request=row.request,
            response=row.response,
            observations=[observation_of(record, response) for record, response in pairs],
            reviews=said,
            payloads=Payloads(row.payloads),
        )

    async def record(self, comparison: KeptComparison, *, version: str, verdict: ReviewVerdict, actor: str) -> None:
        """Record a verdict and count it; a former one on the same answer is taken back."""
        key = {"comparison_id": comparison.id, "version": version}
        seen = next(each for each in comparison.observations if each.version == version)
        first = insert(ReviewRow).values(
            **key,
            epoch_id=comparison.epoch.id,
            verdict=verdict,
            reviewed_by=actor,
            reviewed_at=func.clock_timestamp(),
        )
        async with reaching(self._engine, "recording a review"), AsyncSession(self._engine) as session:
            added = (await session.exec(first.on_conflict_do_nothing().returning(col(ReviewRow.version)))).first()
            change = reviews.contribution(seen, verdict)
            if added is None:
                locked = select(ReviewRow).filter_by(**key).with_for_update()
                row = (await session.exec(locked)).one()
                change += negative(reviews.contribution(seen, ReviewVerdict(row.verdict)))
                again = {"verdict": verdict, "reviewed_by": actor, "reviewed_at": func.clock_timestamp()}
                await session.exec(update(ReviewRow).filter_by(**key).values(again))
            connection = await session.connection()
            await add_rollups(connection, _in_bucket(comparison, change))
            subject = f"{comparison.epoch.model}.{version}"
            detail = {"comparison": comparison.id, "verdict": verdict.value}
            await audit.append(connection, actor=actor, action="record_review", subject=subject, detail=detail)
            await session.commit()

    async def take_back(self, comparison: KeptComparison, *, version: str, actor: str) -> bool:
        """Forget the verdict on an answer, and count it no more; False when there is none."""
        seen = next(each for each in comparison.observations if each.version == version)
        gone = delete(ReviewRow).where(col(ReviewRow.comparison_id) == comparison.id, col(ReviewRow.version) == version)
        async with reaching(self._engine, "taking a review back"), self._engine.begin() as connection:
            verdict = (await connection.execute(gone.returning(col(ReviewRow.verdict)))).scalar_one_or_none()
            if verdict is None:
                return False
            change = negative(reviews.contribution(seen, ReviewVerdict(verdict)))
            await add_rollups(connection, _in_bucket(comparison, change))
            subject = f"{comparison.epoch.model}.{version}"
            detail = {"comparison": comparison.id, "verdict": verdict}
            await audit.append(connection, actor=actor, action="take_back_review", subject=subject, detail=detail)
        return True

    async def reviewed_of_top(self, epoch_id: int, version: str) -> tuple[int, int]:
        """Of a candidate's least similar divergent answers (at most ten): how many have a verdict, and how many are."""
        lines = await self.comparisons(epoch_id, version=version, agreeing=False, most=reviews.TOP)
        return sum(line.verdict is not None for line in lines), len(lines)


async def _least_similar(connection: AsyncConnection, bound: Mapping[str, Any]) -> Sequence[Row[Any]]:
    """The first divergent answers, as far as the first stored comparisons in the order of similarity tell them.

    That order goes by the least similar answer of each comparison, whoever gave it, so no answer further on is less
    similar than where the walk ended: what was found before that is certain. An epoch holds hundreds of thousands of
    comparisons, and looking into all of them takes seconds.
    """
    reach = max(_REACH, 4 * bound["most"])
    rows = (await connection.execute(_DIVERGENT_NEAR, {**bound, "reach": reach})).all()
    return [row for row in rows if row.similarity < row.reached]


def _in_bucket(comparison: KeptComparison, change: Rollup) -> Mapping[tuple[int, int], Rollup]:
    return {(comparison.epoch.id, comparison.epoch.bucket_start(comparison.received_at)): change}


def _review(row: ReviewRow) -> Review:
    return Review(
        version=row.version,
        verdict=ReviewVerdict(row.verdict),
        by=row.reviewed_by,
        at=row.reviewed_at.timestamp(),
    )


# Comparisons that are looked into first: a few milliseconds.
_REACH = 1_000
_LINES = """
    SELECT kept.id, kept.request_id, kept.received_at, seen.version, seen.similarity, seen.detail, review.verdict{more}
    FROM {comparisons} AS kept
    CROSS JOIN LATERAL jsonb_to_recordset(kept.observations)
        AS seen (version text, outcome text, similarity float, detail text)
    LEFT JOIN review ON review.comparison_id = kept.id AND review.version = seen.version
    WHERE kept.epoch_id = :epoch_id AND :version IN ('', seen.version) AND {which}
    ORDER BY {order} LIMIT :most
"""
_BY_SIMILARITY = "seen.similarity, kept.id, seen.version"
_WHOLE: Mapping[str, str] = {"comparisons": "comparison", "more": ""}
_DIVERGENT = text(_LINES.format(**_WHOLE, which="seen.outcome = 'diverged'", order=_BY_SIMILARITY))
_DIVERGENT_NEAR = text(
    _LINES.format(
        # Where fewer are left than are walked, all of them were seen.
        comparisons="""(
            SELECT *, CASE WHEN count(*) OVER () < :reach THEN 'Infinity' ELSE max(value) OVER () END AS reached
            FROM (
                SELECT *, comparison_similarity(observations) AS value FROM comparison
                WHERE epoch_id = :epoch_id AND kept_because = 'diverged'
                ORDER BY comparison_similarity(observations), id
                LIMIT :reach
            ) AS walked
        )""",
        more=", kept.reached",
        which="seen.outcome = 'diverged'",
        order=_BY_SIMILARITY,
    )
)
_AGREEING = text(
    _LINES.format(
        **_WHOLE,
        which="kept.kept_because = 'sample' AND seen.outcome = 'ok'",
        order="kept.received_at DESC, kept.id, seen.version",
    )
)
