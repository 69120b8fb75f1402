"""Requests of stored comparisons, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment
from multishadow_server.adapters.postgres.tables import ComparisonRow, EpochRow, ExperimentRow
from multishadow_server.core import redaction, writes
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.replay import Replayable
from multishadow_server.service.ports import RequestFilter, StoredKey


class PostgresStoredRequests:
    """A StoredRequests.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, wanted: RequestFilter) -> Sequence[StoredKey]:
        """Those that are there, in the order in which they were received.

        Only their keys: contents are as large as callers made them, and are loaded a few at a time.
        """
        statement = (
            select(col(ComparisonRow.day), col(ComparisonRow.id))
            .join(EpochRow, col(EpochRow.id) == ComparisonRow.epoch_id)
            .join(ExperimentRow, col(ExperimentRow.id) == EpochRow.experiment_id)
            .where(ExperimentRow.model == wanted.model, _SENDABLE)
            .order_by(col(ComparisonRow.received_at).desc(), col(ComparisonRow.id).desc())
            .limit(wanted.most)
        )
        if wanted.experiment_id:
            statement = statement.where(ExperimentRow.id == wanted.experiment_id)
        if wanted.since is not None:
            since = moment(wanted.since)
            # The day leaves out whole partitions.
            statement = statement.where(col(ComparisonRow.received_at) >= since, col(ComparisonRow.day) >= since.date())
        if wanted.until is not None:
            until = moment(wanted.until)
            statement = statement.where(col(ComparisonRow.received_at) < until, col(ComparisonRow.day) <= until.date())
        if wanted.diverged:
            statement = statement.where(ComparisonRow.kept_because == "diverged")
        async with reaching(self._engine, "finding stored requests"), AsyncSession(self._engine) as session:
            found = [StoredKey(day, number) for day, number in await session.exec(statement) if number is not None]
        return found[::-1]

    async def load(self, keys: Sequence[StoredKey]) -> Sequence[Replayable]:
        """In this order, without those that were deleted meanwhile."""
        wanted = select(ComparisonRow).where(
            col(ComparisonRow.day).in_({key.day for key in keys}), col(ComparisonRow.id).in_([key.id for key in keys])
        )
        async with reaching(self._engine, "reading stored requests"), AsyncSession(self._engine) as session:
            rows = {row.id: row for row in await session.exec(wanted)}
        return [_replayable(rows[key.id]) for key in keys if key.id in rows]


# A hash of a request cannot be sent. Under `redacted`, what could not be read is stored as its hash, too.
_SENDABLE = (col(ComparisonRow.payloads) == Payloads.FULL) | (
    (col(ComparisonRow.payloads) == Payloads.REDACTED)
    & (
        (func.octet_length(ComparisonRow.request) != redaction.SEALED_BYTES)
        | (func.substring(ComparisonRow.request, 1, len(redaction.SEALED)) != redaction.SEALED.encode())
    )
)


def _replayable(row: ComparisonRow) -> Replayable:
    return Replayable(
        request=row.request,
        request_id=row.request_id,
        session_id=row.session_id,
        method=row.method,
        # Nothing can be held against a hash.
        response=b"" if row.payloads != Payloads.FULL and redaction.is_sealed(row.response) else row.response,
        at=row.received_at.timestamp(),
        latency=row.live_latency,
        marked=writes.is_marked((), row.attributes),
    )
