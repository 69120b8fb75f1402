"""The audit log: lines are added to it, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, storable_json, storable_text
from multishadow_server.adapters.postgres.tables import AuditRow, ConfigurationRevisionRow
from multishadow_server.service.ports import AuditLine, AuditQuery


async def append(
    connection: AsyncConnection, *, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Add a line in a transaction that is no change of the configuration; commit soon after.

    It takes the lock that changes take: lines are then committed in the order of their ids, and whoever follows the log
    by id misses none.
    """
    await connection.execute(select(ConfigurationRevisionRow.id).with_for_update())
    line = {
        "at": func.clock_timestamp(),
        "actor": storable_text(actor),
        "action": action,
        "subject": subject,
        "detail": {name: storable_json(value) for name, value in detail.items()},
    }
    await connection.execute(insert(AuditRow).values(line))


class PostgresAudit:
    """An AuditLog.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def lines(self, query: AuditQuery) -> Sequence[AuditLine]:
        """The lines that were asked for; see `AuditQuery`."""
        oldest_first = query.after is not None
        order = col(AuditRow.id) if oldest_first else col(AuditRow.id).desc()
        wanted = select(AuditRow).where(*_conditions(query)).order_by(order).limit(query.most)
        async with reaching(self._engine, "reading the audit log"), AsyncSession(self._engine) as session:
            return [_line(row) for row in await session.exec(wanted)]


def _conditions(query: AuditQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.since is not None:
        conditions.append(col(AuditRow.at) >= moment(query.since))
    if query.until is not None:
        conditions.append(col(AuditRow.at) < moment(query.until))
    if query.before is not None:
        conditions.append(col(AuditRow.id) < query.before)
    if query.after is not None:
        conditions.append(col(AuditRow.id) > query.after)
    if query.action:
        conditions.append(col(AuditRow.action) == query.action)
    if query.actor:
        actor = col(AuditRow.actor)
        conditions.append(or_(actor == query.actor, actor.startswith(f"{query.actor} (as ", autoescape=True)))
    if query.subject:
        subject = col(AuditRow.subject)
        conditions.append(or_(subject == query.subject, subject.startswith(f"{query.subject}.", autoescape=True)))
    return conditions


def _line(row: AuditRow) -> AuditLine:
    assert row.id is not None
    return AuditLine(
        id=row.id, at=row.at.timestamp(), actor=row.actor, action=row.action, subject=row.subject, detail=row.detail
    )
