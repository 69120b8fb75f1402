"""Alarms in PostgreSQL, and the readings of counts that they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, bindparam, delete, func, or_, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres import webhook_outbox
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, process_of, storable_text
from multishadow_server.adapters.postgres.tables import AlarmRow, AuditRow, ProcessRow, WatchReadingRow
from multishadow_server.core import webhook_events
from multishadow_server.core.alarms import Alarm, AlarmKey, AlarmKind, Turn
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.rollup import Family
from multishadow_server.core.watch_readings import LEFT_OUT, BucketCell, Reading, buckets_of
from multishadow_server.service.ports import Past, ProcessStatus, Span

FAMILIES = (Family.OUTCOME, Family.ERROR_REASON, Family.DROPPED_REASON, Family.UNCOMPARABLE_REASON)
KEEP_DAYS = 30
"""Days that alarms which are over stay in the history."""
_LOCK = 0x6D756C74_616C726D  # "multalrm": one process at a time looks


class PostgresAlarms:
    """An AlarmStore.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reading(self, epochs: Sequence[Epoch], *, back: float) -> Reading:
        """What is counted now: of recent time buckets only, found by their primary key."""
        async with reaching(self._engine, "reading recent counts"), self._engine.connect() as connection:
            at = float((await connection.execute(select(func.clock_timestamp()))).scalar_one().timestamp())
            buckets = {epoch.id: buckets_of(epoch, now=at, back=back) for epoch in epochs}
            pairs = [(epoch_id, start) for epoch_id, starts in buckets.items() for start in starts]
            bound = {
                "epochs": [epoch_id for epoch_id, _ in pairs],
                "starts": [start for _, start in pairs],
                "families": list(FAMILIES),
            }
            cells = {
                BucketCell(row.epoch_id, int(row.bucket), row.family, row.subject, row.level): int(row.n)
                for row in await connection.execute(_CELLS, bound)
            }
            requests = {row.model: int(row.requests) for row in await connection.execute(_REQUESTS)}
            routers = {
                (row.instance, name): int(n)
                for row in await connection.execute(_ROUTERS)
                for name, n in row.counters.items()
                if name in {"captured", *LEFT_OUT} or name.startswith("dropped.")
            }
        oldest = {epoch_id: starts[0] for epoch_id, starts in buckets.items()}
        return Reading(at=at, oldest=oldest, cells=cells, requests=requests, routers=routers)

    async def turn(self, reading: Reading, span: Span, decide: Callable[[Past], Turn]) -> Turn | None:
        """Keep the reading and write what `decide` makes of it, in one transaction; None while another process does."""
        async with reaching(self._engine, "looking for alarms"), self._engine.begin() as connection:
            locked = await connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            if not locked.scalar_one():
                return None
            past = Past(
                recent=await _reading_before(connection, reading.at - span.recent),
                window=await _reading_before(connection, reading.at - span.window, or_oldest=True),
                standing=await _standing(connection),
            )
            turn = decide(past)
            await _keep(connection, reading, span)
            await _write(connection, turn, reading.at)
            await _tell(connection, turn, reading.at)
        return turn

    async def alarms(self, model: str = "") -> Sequence[Alarm]:
        """Those that are on, not acknowledged ones first."""
        wanted = (
            select(AlarmRow)
            .where(col(AlarmRow.cleared_at).is_(None))
            .order_by(col(AlarmRow.acknowledged_at).is_not(None), col(AlarmRow.raised_at), col(AlarmRow.id))
        )
        if model:
            wanted = wanted.where(col(AlarmRow.model).in_(["", model]))
        async with reaching(self._engine, "reading alarms"), AsyncSession(self._engine) as session:
            return [_alarm_of(row) for row in await session.exec(wanted)]

    async def history(self, model: str = "", *, most: int, before: int | None = None) -> Sequence[Alarm]:
        """On or over, the newest first; with `before`, of those whose number is below it."""
        wanted = select(AlarmRow).order_by(col(AlarmRow.id).desc()).limit(most)
        if before is not None:
            wanted = wanted.where(col(AlarmRow.id) < before)
        if model:
            wanted = wanted.where(col(AlarmRow.model).in_(["", model]))
        async with reaching(self._engine, "reading the history of alarms"), AsyncSession(self._engine) as session:
            return [_alarm_of(row) for row in await session.exec(wanted)]

    async def acknowledge(self, ids: Sequence[int], *, model: str, actor: str, note: str) -> Sequence[Alarm]:
        """Put on record that somebody knows of alarms that are on; a line in the audit log for each."""
        statement = (
            update(AlarmRow)
            .where(col(AlarmRow.cleared_at).is_(None), col(AlarmRow.acknowledged_at).is_(None))
            .values(acknowledged_at=func.clock_timestamp(), acknowledged_by=actor, note=note)
            .returning(AlarmRow)
        )
        if ids:
            statement = statement.where(col(AlarmRow.id).in_(ids))
        elif model:
            statement = statement.where(or_(AlarmRow.model == model, AlarmRow.model == ""))  # type: ignore[arg-type]  # columns
        async with reaching(self._engine, "acknowledging alarms"), AsyncSession(self._engine) as session:
            acknowledged = [_alarm_of(row) for row in (await session.exec(statement)).scalars()]
            if acknowledged:
                await session.exec(insert(AuditRow).values([_audit(alarm, actor) for alarm in acknowledged]))
            await session.commit()
        return sorted(acknowledged, key=lambda alarm: alarm.id)

    async def processes(self) -> Sequence[ProcessStatus]:
        """What processes said of themselves last."""
        async with reaching(self._engine, "reading processes"), AsyncSession(self._engine) as session:
            return [process_of(row) for row in await session.exec(select(ProcessRow))]


async def _reading_before(connection: AsyncConnection, at: float, *, or_oldest: bool = False) -> Reading | None:
    newest = select(WatchReadingRow.reading).where(col(WatchReadingRow.at) <= moment(at))
    found = (await connection.execute(newest.order_by(col(WatchReadingRow.at).desc()).limit(1))).scalar_one_or_none()
    if found is None and or_oldest:
        oldest = select(WatchReadingRow.reading).order_by(col(WatchReadingRow.at)).limit(1)
        found = (await connection.execute(oldest)).scalar_one_or_none()
    return None if found is None else _reading_of(found)


async def _standing(connection: AsyncConnection) -> Sequence[Alarm]:
    wanted = select(AlarmRow).where(col(AlarmRow.cleared_at).is_(None))
    async with AsyncSession(connection) as session:
        return [_alarm_of(row) for row in await session.exec(wanted)]


async def _keep(connection: AsyncConnection, reading: Reading, span: Span) -> None:
    """Add the reading, unless the last one is young; forget those that no look will need again."""
    newest = (await connection.execute(select(func.max(WatchReadingRow.at)))).scalar_one_or_none()
    if newest is None or reading.at - newest.timestamp() >= span.apart:
        row = {"at": moment(reading.at), "reading": _record(reading)}
        await connection.execute(insert(WatchReadingRow).values(row).on_conflict_do_nothing())
        await connection.execute(_FORGET_READINGS, {"at": moment(reading.at - max(span.window, span.recent))})


async def _write(connection: AsyncConnection, turn: Turn, now: float) -> None:
    if turn.raised:
        rows = [
            {
                "kind": finding.key.kind,
                "model": finding.key.model,
                "subject": storable_text(finding.key.subject),
                "detail": storable_text(finding.detail),
                "raised_at": moment(now),
                "seen_at": moment(now),
                "acknowledged_by": "",
                "note": "",
            }
            for finding in turn.raised
        ]
        await connection.execute(insert(AlarmRow).values(rows))
    for alarm, finding in turn.found:
        seen: dict[str, Any] = {"seen_at": moment(now)}
        if finding.known:
            seen["detail"] = storable_text(finding.detail)
        await connection.execute(update(AlarmRow).where(col(AlarmRow.id) == alarm.id).values(seen))
    if turn.cleared:
        over = col(AlarmRow.id).in_([alarm.id for alarm in turn.cleared])
        await connection.execute(update(AlarmRow).where(over).values(cleared_at=moment(now)))
        forgotten = col(AlarmRow.cleared_at) < moment(now - KEEP_DAYS * 86_400)
        await connection.execute(delete(AlarmRow).where(forgotten))


async def _tell(connection: AsyncConnection, turn: Turn, now: float) -> None:
    for finding in turn.raised:
        await webhook_outbox.tell(connection, webhook_events.alarm_raised(finding, at=now))
    for alarm in turn.cleared:
        await webhook_outbox.tell(connection, webhook_events.alarm_cleared(alarm, at=now))


def _audit(alarm: Alarm, actor: str) -> dict[str, Any]:
    return {
        "at": func.clock_timestamp(),
        "actor": actor,
        "action": "acknowledge_alarm",
        "subject": alarm.key.model or alarm.key.subject,
        "detail": {"alarm": alarm.id, **alarm.key._asdict(), "found": alarm.detail, "note": alarm.note},
    }


def _alarm_of(row: AlarmRow) -> Alarm:
    assert row.id is not None
    return Alarm(
        id=row.id,
        key=AlarmKey(AlarmKind(row.kind), row.model, row.subject),
        detail=row.detail,
        raised_at=row.raised_at.timestamp(),
        seen_at=row.seen_at.timestamp(),
        cleared_at=row.cleared_at.timestamp() if row.cleared_at else None,
        acknowledged_at=row.acknowledged_at.timestamp() if row.acknowledged_at else None,
        acknowledged_by=row.acknowledged_by,
        note=row.note,
    )


def _record(reading: Reading) -> dict[str, Any]:
    return {
        "at": reading.at,
        "oldest": list(reading.oldest.items()),
        "cells": [[*cell, n] for cell, n in reading.cells.items()],
        "requests": dict(reading.requests),
        "routers": [[*key, n] for key, n in reading.routers.items()],
    }


def _reading_of(record: Mapping[str, Any]) -> Reading:
    return Reading(
        at=record["at"],
        oldest=dict(record["oldest"]),
        cells={BucketCell(*cell): n for *cell, n in record["cells"]},
        requests=record["requests"],
        routers={(instance, name): n for instance, name, n in record["routers"]},
    )


_CELLS = text(
    "SELECT r.epoch_id, extract(epoch FROM r.bucket_start) AS bucket, r.family, r.subject, r.level, r.n "
    "FROM unnest(:epochs, :starts) AS wanted (epoch_id, start) "
    "JOIN rollup AS r ON r.epoch_id = wanted.epoch_id AND r.bucket_start = to_timestamp(wanted.start) "
    "WHERE r.family = ANY(:families)"
).bindparams(bindparam("epochs", type_=ARRAY(BigInteger())), bindparam("starts", type_=ARRAY(BigInteger())))
# A router's counts stay for two weeks; those of an hour ago are of routers, or revisions, that are over.
_REQUESTS = text(
    "SELECT model, sum(requests) AS requests FROM live_count "
    "WHERE seen_at > clock_timestamp() - make_interval(hours => 1) GROUP BY model"
)
_ROUTERS = text("SELECT instance, counters FROM process WHERE role = 'router'")
# The newest of those that are old enough is the one that the next look is held against.
_FORGET_READINGS = text("DELETE FROM watch_reading WHERE at < (SELECT max(at) FROM watch_reading WHERE at <= :at)")
