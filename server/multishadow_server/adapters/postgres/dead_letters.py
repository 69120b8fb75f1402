"""Dead letters: written with a micro-batch, taken by workers, looked at by people."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters import capture_codec
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, storable_text
from multishadow_server.adapters.postgres.tables import AuditRow, DeadLetterRow
from multishadow_server.core.capture import Capture, CaptureBatch
from multishadow_server.core.dead_letters import UNREADABLE, DeadLetter, LetterState
from multishadow_server.service.ports import Attempt, ClaimedLetter, LetterFilter, LetterLine, StoredLetter

# Beyond a version's own time limit, an attempt may wait for a slot and for its comparison.
CLAIM_MARGIN_SECONDS = 120


async def write_letters(connection: AsyncConnection, letters: Sequence[DeadLetter]) -> int:
    """Write letters within a transaction, as far as their models' limits allow; returns how many were given up.

    Workers that write at the same time do not see each other's: a model may have more than its limit by what they
    write at once.
    """
    refused = 0
    rooms: dict[str, int] = {}
    written: list[dict[str, Any]] = []
    for letter in letters:
        if letter.model not in rooms:
            present = await connection.execute(_PRESENT, {"model": letter.model, "most": letter.most})
            rooms[letter.model] = letter.most - present.scalar_one()
        if rooms[letter.model] <= 0:
            refused += 1
            continue
        rooms[letter.model] -= 1
        written.append(_parameters(letter))
    if written:
        await connection.execute(_WRITE, written)
    return refused


class PostgresDeadLetters:
    """A LetterQueue and a LetterStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, *, busy: Collection[str], of_each: int) -> Sequence[ClaimedLetter]:
        """Take letters that are due, the longest due first; see LetterQueue."""
        claim = uuid.uuid4().hex
        wanted = {"busy": sorted(busy), "of_each": of_each, "claim": claim, "margin": CLAIM_MARGIN_SECONDS}
        async with reaching(self._engine, "taking dead letters"), self._engine.begin() as connection:
            rows = (await connection.execute(_CLAIM, wanted)).mappings().all()
        return [
            ClaimedLetter(
                id=row["id"],
                claim=claim,
                model=row["model"],
                version=row["version"],
                epoch_id=row["epoch_id"],
                attempts=row["attempts"],
                asked=row["retry"] != "",
                capture=_capture_of(row["payload"]),
            )
            for row in sorted(rows, key=lambda row: row["id"])
        ]

    async def settle(self, letter: ClaimedLetter, attempt: Attempt) -> bool:
        """Write what an attempt came to; see LetterQueue."""
        waits = attempt.state is LetterState.WAITING
        now = func.clock_timestamp()
        settled = (
            update(DeadLetterRow)
            .where(col(DeadLetterRow.id) == letter.id, col(DeadLetterRow.claim) == letter.claim)
            .values(
                state=attempt.state,
                attempts=attempt.attempts,
                outcome=attempt.outcome,
                reason=attempt.reason,
                detail=storable_text(attempt.detail),
                similarity=attempt.similarity,
                changed_at=now,
                next_attempt_at=now + func.make_interval(0, 0, 0, 0, 0, 0, attempt.wait) if waits else None,
                claim="",
            )
        )
        async with reaching(self._engine, "settling a dead letter"), self._engine.begin() as connection:
            return (await connection.execute(settled)).rowcount == 1

    async def give_back(self, letters: Sequence[ClaimedLetter]) -> None:
        """They are due again at once: nobody tried."""
        async with reaching(self._engine, "giving dead letters back"), self._engine.begin() as connection:
            for letter in letters:
                back = update(DeadLetterRow).where(
                    col(DeadLetterRow.id) == letter.id, col(DeadLetterRow.claim) == letter.claim
                )
                await connection.execute(back.values(next_attempt_at=func.clock_timestamp(), claim=""))

    async def listed(self, which: LetterFilter, *, before: int, most: int) -> Sequence[LetterLine]:
        """The newest of those whose id is below `before` (0: of all), newest first."""
        wanted = select(*_LINE).where(*_chosen(which)).order_by(col(DeadLetterRow.id).desc()).limit(most)
        if before:
            wanted = wanted.where(col(DeadLetterRow.id) < before)
        async with reaching(self._engine, "listing dead letters"), self._engine.connect() as connection:
            return [_line(dict(row)) for row in (await connection.execute(wanted)).mappings()]

    async def letter(self, letter_id: int) -> StoredLetter | None:
        """One with its payload; None when there is none of that id."""
        wanted = select(DeadLetterRow).where(DeadLetterRow.id == letter_id)
        async with reaching(self._engine, "reading a dead letter"), AsyncSession(self._engine) as session:
            row = (await session.exec(wanted)).one_or_none()
        if row is None:
            return None
        line = _line(row.model_dump())
        if row.outcome == UNREADABLE:
            return StoredLetter(line=line, capture=None, raw=row.payload)
        return StoredLetter(line=line, capture=_capture_of(row.payload))

    async def counted(self, which: LetterFilter) -> Mapping[tuple[str, str, LetterState], int]:
        """How many there are by model, version and state."""
        by = (col(DeadLetterRow.model), col(DeadLetterRow.version), col(DeadLetterRow.state))
        wanted = select(*by, func.count()).where(*_chosen(which)).group_by(*by)
        async with reaching(self._engine, "counting dead letters"), self._engine.connect() as connection:
            rows = (await connection.execute(wanted)).all()
        return {(model, version, LetterState(state)): count for model, version, state, count in rows}

    async def retry(self, which: LetterFilter, *, retry: str, actor: str) -> tuple[int, int]:
        """Make them due now, under this name; see LetterStore."""
        possible = col(DeadLetterRow.cut).is_(False) & (col(DeadLetterRow.outcome) != UNREADABLE)
        chosen = (*_chosen(which), col(DeadLetterRow.state) != LetterState.ANSWERED)
        now = func.clock_timestamp()
        # Whoever tries one of them at this moment is not believed any more: it has lost its claim.
        due = (
            update(DeadLetterRow)
            .where(*chosen, possible)
            .values(state=LetterState.WAITING, next_attempt_at=now, changed_at=now, claim="", retry=retry)
        )
        other = select(func.count()).select_from(DeadLetterRow).where(*chosen, ~possible)
        async with reaching(self._engine, "retrying dead letters"), self._engine.begin() as connection:
            impossible = (await connection.execute(other)).scalar_one()
            count = (await connection.execute(due)).rowcount
            if count:
                await _audit(connection, actor, "retry_dead_letters", which, {"count": count, "retry": retry})
        return count, impossible

    async def purge(self, which: LetterFilter, *, most: int, actor: str) -> int:
        """Delete at most so many; how many."""
        some = select(DeadLetterRow.id).where(*_chosen(which)).order_by(col(DeadLetterRow.id)).limit(most)
        async with reaching(self._engine, "purging dead letters"), self._engine.begin() as connection:
            gone = (await connection.execute(delete(DeadLetterRow).where(col(DeadLetterRow.id).in_(some)))).rowcount
            if gone:
                await _audit(connection, actor, "purge_dead_letters", which, {"count": gone})
        return gone


def _parameters(letter: DeadLetter) -> dict[str, Any]:
    capture = letter.capture
    return {
        "model": letter.model,
        "version": letter.version,
        "request_id": storable_text(capture.request_id) if capture else "",
        "session_id": storable_text(capture.session_id) if capture else "",
        "epoch_id": letter.epoch_id,
        "state": letter.state.value,
        "attempts": 0 if capture is None else 1,
        "outcome": str(letter.outcome),
        "reason": storable_text(letter.reason),
        "detail": storable_text(letter.detail),
        "received_at": moment(capture.received_at) if capture else None,
        "wait": letter.wait if letter.state is LetterState.WAITING else None,
        "keep": letter.keep,
        "cut": letter.cut,
        "payload": letter.raw
        if capture is None
        else capture_codec.encode(CaptureBatch(router="", captures=(capture,))),
    }


def _payload(capture: Capture) -> bytes:
    """A capture batch of one, as the log holds it."""
    return capture_codec.encode(CaptureBatch(router="", captures=(capture,)))


def _capture_of(payload: bytes) -> Capture:
    (capture,) = capture_codec.decode(payload).captures
    return capture


def _chosen(which: LetterFilter) -> Iterable[ColumnElement[bool]]:
    if which.ids:
        yield col(DeadLetterRow.id).in_(which.ids)
    for column, value in (
        (DeadLetterRow.model, which.model),
        (DeadLetterRow.version, which.version),
        (DeadLetterRow.state, which.state),
        (DeadLetterRow.retry, which.retry),
    ):
        if value:
            yield col(column) == value
    if which.since is not None:
        yield col(DeadLetterRow.created_at) >= moment(which.since)


async def _audit(
    connection: AsyncConnection, actor: str, action: str, which: LetterFilter, detail: Mapping[str, Any]
) -> None:
    said = {
        "ids": list(which.ids),
        "version": which.version,
        "state": which.state or "",
        "since": which.since,
        "retry": which.retry,
    }
    await connection.execute(
        insert(AuditRow).values(
            at=func.clock_timestamp(),
            actor=actor,
            action=action,
            subject=which.model,
            detail={**{name: value for name, value in said.items() if value}, **detail},
        )
    )


def _line(row: Mapping[str, Any]) -> LetterLine:
    moments = ("received_at", "created_at", "changed_at", "next_attempt_at", "expires_at")
    values = {name: row[name] for name in LetterLine.__dataclass_fields__}
    for name in moments:
        values[name] = row[name].timestamp() if row[name] is not None else None
    return LetterLine(**{**values, "state": LetterState(row["state"])})


_LINE: tuple[Any, ...] = tuple(getattr(DeadLetterRow, name) for name in LetterLine.__dataclass_fields__)
_PRESENT = text("SELECT count(*) FROM (SELECT 1 FROM dead_letter WHERE model = :model LIMIT :most) AS present")
_WRITE = text(
    """
    INSERT INTO dead_letter (model, version, request_id, session_id, epoch_id, state, attempts, outcome, reason, detail,
                             received_at, cut, payload, created_at, changed_at, next_attempt_at, expires_at, claim,
                             retry)
    VALUES (:model, :version, :request_id, :session_id, :epoch_id, :state, :attempts, :outcome, :reason, :detail,
            :received_at, :cut, :payload, clock_timestamp(), clock_timestamp(),
            clock_timestamp() + make_interval(secs => :wait),
            clock_timestamp() + make_interval(secs => :keep), '', '')
    """
)
# By version, so that a thousand letters for one that hangs do not hold up those for the others.
_CLAIM = text(
    """
    WITH due AS (
        SELECT letter.id, version.timeout
        FROM version
        CROSS JOIN LATERAL (
            SELECT id
            FROM dead_letter
            WHERE dead_letter.model = version.model AND dead_letter.version = version.name
              AND state = 'waiting' AND next_attempt_at <= clock_timestamp()
            ORDER BY next_attempt_at
            LIMIT :of_each
            FOR UPDATE SKIP LOCKED
        ) AS letter
        WHERE NOT version.model || '.' || version.name = ANY(:busy)
    )
    UPDATE dead_letter
    SET claim = :claim, next_attempt_at = clock_timestamp() + make_interval(secs => due.timeout + :margin)
    FROM due
    WHERE dead_letter.id = due.id
    RETURNING dead_letter.id, model, version, epoch_id, attempts, retry, payload
    """
)
