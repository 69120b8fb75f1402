"""Rollouts: read by control's rounds, changed within a change of the flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment
from multishadow_server.adapters.postgres.tables import LiveCountRow, RolloutEventRow, RolloutRow
from multishadow_server.core.guardrails import GuardrailName, Limits
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.rollout import Rollout, RolloutState, Terms
from multishadow_server.errors import Conflict
from multishadow_server.service.ports import NewRollout, RolloutEvent, StageCounts

# Counts older than this say nothing of the present rate of requests.
RATE_SECONDS = 60


class PostgresRolloutRecords:
    """RolloutRecords, within the transaction of a change."""

    def __init__(self, session: AsyncSession, *, actor: str, revision: int, now: datetime) -> None:
        self._session = session
        self._actor = actor
        self._revision = revision
        self._now = now

    async def running(self, model: str) -> Rollout | None:
        """The model's rollout that goes on, running or paused."""
        wanted = select(RolloutRow).where(RolloutRow.model == model, col(RolloutRow.ended_at).is_(None))
        async with self._reaching():
            row = (await self._session.exec(wanted)).one_or_none()
        return rollout_of(row) if row else None

    async def start(self, new: NewRollout) -> Rollout:
        """Record a rollout whose first stage this change enters. Raises Conflict: one goes on already."""
        row = RolloutRow(
            model=new.model,
            version=new.version,
            previous=new.previous,
            address=new.address,
            plan=new.plan,
            terms=_terms_record(new.terms),
            state=RolloutState.RUNNING,
            stage=0,
            first_revision=self._revision,
            stage_revision=self._revision,
            entered_at=self._now,
            setbacks=0,
            turn=1,
            baseline=dict(new.baseline),
            started_at=self._now,
            started_by=self._actor,
            reason=new.reason,
            changed_by=self._actor,
            note="",
        )
        self._session.add(row)
        async with self._reaching():
            await self._session.flush()
        return rollout_of(row)

    async def move(self, before: Rollout, after: Rollout) -> None:
        """Put `after` in its place. Raises Conflict: `before` is not how it stands any more."""
        statement = (
            update(RolloutRow)
            .where(col(RolloutRow.id) == before.id, col(RolloutRow.turn) == before.turn)
            .values(
                state=after.state,
                stage=after.stage,
                stage_revision=after.stage_revision,
                entered_at=moment(after.entered_at),
                setbacks=after.setbacks,
                turn=after.turn,
                baseline=dict(after.baseline),
                changed_by=after.changed_by,
                note=after.note,
                ended_at=None if after.ended_at is None else moment(after.ended_at),
            )
        )
        async with self._reaching():
            updated = await self._session.exec(statement)
        if updated.rowcount != 1:
            raise Conflict(f"rollout {before.id} of {before.model} was changed by somebody else meanwhile; read again")

    async def note(self, rollout: Rollout, event: RolloutEvent) -> None:
        """Add to its history."""
        line = {
            "rollout_id": rollout.id,
            "at": moment(event.at),
            "actor": event.actor,
            "move": event.move,
            "percent": event.percent,
            "revision": event.revision,
            "why": event.why,
            "findings": [dict(finding) for finding in event.findings],
        }
        async with self._reaching():
            await self._session.exec(insert(RolloutEventRow).values(line))

    def _reaching(self) -> Any:  # noqa: ANN401  the context manager's own type says no more
        bind = self._session.bind
        assert isinstance(bind, AsyncEngine)
        return reaching(bind, "changing a rollout")


class PostgresRollouts:
    """A RolloutStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def now(self) -> float:
        """The database's time, seconds since the Unix epoch."""
        async with reaching(self._engine, "reading the time"), AsyncSession(self._engine) as session:
            return float((await session.exec(select(func.clock_timestamp()))).one().timestamp())

    async def rollouts(self, model: str = "", *, running: bool = False) -> Sequence[Rollout]:
        """Of one model, or of all, newest first; `running`: only those that go on."""
        wanted = select(RolloutRow).order_by(col(RolloutRow.id).desc())
        if model:
            wanted = wanted.where(RolloutRow.model == model)
        if running:
            wanted = wanted.where(col(RolloutRow.ended_at).is_(None))
        async with reaching(self._engine, "reading rollouts"), AsyncSession(self._engine) as session:
            return [rollout_of(row) for row in await session.exec(wanted)]

    async def rollout(self, rollout_id: int) -> Rollout | None:
        """The one of that number."""
        wanted = select(RolloutRow).where(RolloutRow.id == rollout_id)
        async with reaching(self._engine, "reading a rollout"), AsyncSession(self._engine) as session:
            row = (await session.exec(wanted)).one_or_none()
        return rollout_of(row) if row else None

    async def events(self, rollout_id: int) -> Sequence[RolloutEvent]:
        """What happened to it, oldest first."""
        wanted = (
            select(RolloutEventRow).where(RolloutEventRow.rollout_id == rollout_id).order_by(col(RolloutEventRow.id))
        )
        async with reaching(self._engine, "reading a rollout's events"), AsyncSession(self._engine) as session:
            return [_event_of(row) for row in await session.exec(wanted)]

    async def stage_counts(self, model: str, *, first_revision: int, stage_revision: int) -> StageCounts:
        """Live requests by version, of the stage and of the stages before."""
        wanted = select(LiveCountRow).where(LiveCountRow.model == model, col(LiveCountRow.revision) >= first_revision)
        stage: dict[str, LiveCounts] = {}
        before: dict[str, LiveCounts] = {}
        async with reaching(self._engine, "reading live counts"), AsyncSession(self._engine) as session:
            for row in await session.exec(wanted):
                part = stage if row.revision >= stage_revision else before
                part[row.version] = part.get(row.version, LiveCounts()) + _live_counts_of(row)
        return StageCounts(stage=stage, before=before)

    async def request_rate(self, model: str) -> float:
        """Live requests per second at present, roughly; 0 when nobody counts any."""
        async with reaching(self._engine, "reading live counts"), self._engine.connect() as connection:
            found = await connection.execute(_RATE, {"model": model, "seconds": RATE_SECONDS})
            return float(found.scalar_one())


def rollout_of(row: RolloutRow) -> Rollout:
    """A rollout."""
    assert row.id is not None
    return Rollout(
        id=row.id,
        model=row.model,
        version=row.version,
        previous=row.previous,
        address=row.address,
        plan=row.plan,
        terms=_terms_of(row.terms),
        state=RolloutState(row.state),
        stage=row.stage,
        first_revision=row.first_revision,
        stage_revision=row.stage_revision,
        entered_at=row.entered_at.timestamp(),
        setbacks=row.setbacks,
        turn=row.turn,
        baseline=row.baseline,
        started_at=row.started_at.timestamp(),
        started_by=row.started_by,
        reason=row.reason,
        changed_by=row.changed_by,
        note=row.note,
        ended_at=row.ended_at.timestamp() if row.ended_at else None,
    )


def _terms_record(terms: Terms) -> dict[str, Any]:
    return asdict(terms) | {"stages": list(terms.stages), "watched": sorted(terms.watched)}


def _terms_of(record: Mapping[str, Any]) -> Terms:
    return Terms(
        **{
            **record,
            "stages": tuple(record["stages"]),
            "limits": Limits(**record["limits"]),
            "watched": frozenset(GuardrailName(name) for name in record["watched"]),
        }
    )


def _event_of(row: RolloutEventRow) -> RolloutEvent:
    return RolloutEvent(
        at=row.at.timestamp(),
        actor=row.actor,
        move=row.move,
        percent=row.percent,
        revision=row.revision,
        why=row.why,
        findings=row.findings,
    )


def _live_counts_of(row: LiveCountRow) -> LiveCounts:
    return LiveCounts(requests=row.requests, failed=row.failed, covered=row.covered, latencies=row.latencies)


# A router's rows lie beside each other (its versions) and one after the other (its revisions), so a rate is that of all
# its requests over all its time: rates of rows would add up to a multiple of it after every change of flags.
_RATE = text(
    "SELECT coalesce(sum(requests / seconds), 0) FROM ("
    "SELECT sum(requests) AS requests, greatest(extract(epoch FROM max(seen_at) - min(first_at)), 1) AS seconds "
    "FROM live_count WHERE model = :model AND seen_at > clock_timestamp() - make_interval(secs => :seconds) "
    "GROUP BY run) AS of_a_router"
)
