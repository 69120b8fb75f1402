"""Open sessions as workers read and write them, and stored sessions as people look at them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select, tuple_
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, observation_of, storable_text
from multishadow_server.adapters.postgres.tables import FlagRevisionRow, OpenSessionRow, SessionClockRow
from multishadow_server.core.assignments import FlagChange
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.sessions import Cut, OpenSession, SessionChanges, SessionKey, Turn
from multishadow_server.service.ports import StoredTurn


async def read_open_sessions(engine: AsyncEngine, log_id: str, partition: int) -> SessionChanges:
    """A partition's open sessions, and the log's time, as they were committed. Raises StoreUnavailable."""
    own = select(OpenSessionRow).where(OpenSessionRow.log_id == log_id, OpenSessionRow.partition == partition)
    time = select(SessionClockRow.time).where(SessionClockRow.log_id == log_id, SessionClockRow.partition == partition)
    async with reaching(engine, "reading open sessions"), AsyncSession(engine) as session:
        return SessionChanges(
            time=(await session.exec(time)).one_or_none(), put=[_session_of(row) for row in await session.exec(own)]
        )


async def write_open_sessions(
    connection: AsyncConnection, log_id: str, partition: int, changes: SessionChanges
) -> None:
    """Write what changed, within the transaction that moves the partition's offset."""
    owner = {"log_id": log_id, "partition": partition}
    if changes.time is not None:
        clock = insert(SessionClockRow).values(**owner, time=changes.time)
        await connection.execute(
            clock.on_conflict_do_update(index_elements=["log_id", "partition"], set_={"time": clock.excluded.time})
        )
    if changes.put:
        await connection.execute(_PUT, {**owner, "rows": json.dumps([_record(each) for each in changes.put])})
    if changes.ended:
        keys = [(key.model, key.session_id.encode()) for key in changes.ended]
        await connection.execute(
            delete(OpenSessionRow).where(
                col(OpenSessionRow.log_id) == log_id,
                col(OpenSessionRow.partition) == partition,
                tuple_(col(OpenSessionRow.model), col(OpenSessionRow.session_id)).in_(keys),
            )
        )


async def read_flag_changes(engine: AsyncEngine, keys: Sequence[str], *, since: float) -> Sequence[FlagChange]:
    """What flags said from a time on, and for each the last change before it. Raises StoreUnavailable."""
    before = (
        select(FlagRevisionRow.key, func.max(FlagRevisionRow.revision).label("revision"))
        .where(col(FlagRevisionRow.key).in_(keys), col(FlagRevisionRow.changed_at) <= moment(since))
        .group_by(col(FlagRevisionRow.key))
        .subquery()
    )
    wanted = (
        select(FlagRevisionRow)
        .outerjoin(before, before.c.key == col(FlagRevisionRow.key))
        .where(
            col(FlagRevisionRow.key).in_(keys),
            col(FlagRevisionRow.revision) >= func.coalesce(before.c.revision, 0),
        )
    )
    async with reaching(engine, "reading the history of flags"), AsyncSession(engine) as session:
        return [
            FlagChange(key=row.key, at=row.changed_at.timestamp(), revision=row.revision, definition=row.definition)
            for row in await session.exec(wanted)
        ]


# One statement, however many sessions. The update changes no column of the key, so that it can stay on its page.
_PUT = text(
    """
    INSERT INTO open_session (log_id, partition, model, session_id, epoch_id, last_at, state)
    SELECT :log_id, :partition, model, decode(session_id, 'hex'), epoch_id, to_timestamp(last_at), state
    FROM json_to_recordset(CAST(:rows AS json))
        AS session (model text, session_id text, epoch_id bigint, last_at float, state jsonb)
    ON CONFLICT (log_id, partition, model, session_id) DO UPDATE
    SET epoch_id = excluded.epoch_id, last_at = excluded.last_at, state = excluded.state
    """
)


def _record(session: OpenSession) -> Mapping[str, Any]:
    return {
        "model": session.key.model,
        "session_id": session.key.session_id.encode().hex(),
        "epoch_id": session.epoch_id,
        "last_at": session.last_at,
        "state": {
            "candidates": session.candidates,
            "bucket_seconds": session.bucket_seconds,
            "live": session.live,
            "idle": session.idle,
            "first": session.first,
            "due": session.due,
            "cut": session.cut,
            "turns": [[turn.received_at, turn.number, turn.letters] for turn in session.turns],
        },
    }


def _session_of(row: OpenSessionRow) -> OpenSession:
    state = dict(row.state)
    turns = tuple(
        Turn(received_at=received_at, number=number, letters=letters)
        for received_at, number, letters in state.pop("turns")
    )
    cut = state.pop("cut")
    return OpenSession(
        key=SessionKey(row.model, row.session_id.decode()),
        epoch_id=row.epoch_id,
        candidates=tuple(state.pop("candidates")),
        turns=turns,
        cut=Cut(cut) if cut else None,
        **state,
    )


class PostgresSessions:
    """A SessionRecords.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def divergent_sessions(self, epoch_id: int, *, version: str, most: int) -> Sequence[StoredTurn]:
        """All stored turns, without bytes, of the newest sessions in which a candidate (empty: any) was bad."""
        bound = {"epoch_id": epoch_id, "version": version, "most": most}
        async with reaching(self._engine, "listing sessions"), self._engine.connect() as connection:
            return [_stored_turn(row) for row in (await connection.execute(_DIVERGENT, bound)).mappings()]

    async def session(self, epoch_id: int, session_id: str) -> Sequence[StoredTurn]:
        """The stored turns of one session, as they were received."""
        bound = {"epoch_id": epoch_id, "session_id": storable_text(session_id)}
        async with reaching(self._engine, "reading a session"), self._engine.connect() as connection:
            return [_stored_turn(row) for row in (await connection.execute(_ONE, bound)).mappings()]


def _stored_turn(row: RowMapping) -> StoredTurn:
    responses = row["shadow_responses"] or [b""] * len(row["observations"])
    return StoredTurn(
        comparison_id=row["id"],
        session_id=row["session_id"],
        request_id=row["request_id"],
        received_at=row["received_at"].timestamp(),
        attributes=row["attributes"],
        request=row["request"],
        response=row["response"],
        observations=[
            observation_of(record, response) for record, response in zip(row["observations"], responses, strict=True)
        ],
        payloads=Payloads(row["payloads"]),
    )


_DIVERGENT = text(
    """
    WITH divergent AS (
        SELECT session_id, max(received_at) AS last_at
        FROM comparison
        CROSS JOIN LATERAL jsonb_to_recordset(observations) AS seen (version text, outcome text)
        WHERE epoch_id = :epoch_id AND session_id <> '' AND :version IN ('', seen.version)
            AND seen.outcome IN ('diverged', 'error', 'timeout')
        GROUP BY session_id
        ORDER BY last_at DESC, session_id
        LIMIT :most
    )
    SELECT kept.id, kept.session_id, kept.request_id, kept.received_at, kept.attributes, kept.observations,
           kept.payloads,
           CAST('' AS bytea) AS request, CAST('' AS bytea) AS response, CAST(NULL AS bytea[]) AS shadow_responses
    FROM comparison AS kept JOIN divergent USING (session_id)
    WHERE kept.epoch_id = :epoch_id
    ORDER BY divergent.last_at DESC, kept.session_id, kept.received_at, kept.id
    """
)
_ONE = text(
    """
    SELECT id, session_id, request_id, received_at, attributes, observations, payloads,
           request, response, shadow_responses
    FROM comparison
    WHERE epoch_id = :epoch_id AND session_id = :session_id
    ORDER BY received_at, id
    """
)
