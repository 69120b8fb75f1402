"""Tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, or_, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres import audit
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment
from multishadow_server.adapters.postgres.tables import ConfigurationRevisionRow, TokenRow
from multishadow_server.core.access import MOST_TOKENS, Role, Token

# Who shows a token that was revoked is told so for as long; later it is one that nobody knows.
_REMEMBERED = text("now() - interval '30 days'")


class PostgresTokens:
    """A TokenStore.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def change(self, actor: str) -> AsyncIterator[PostgresTokenChange]:
        """Begin a change; leaving the block commits, an exception in it undoes everything."""
        async with AsyncSession(self._engine) as session:
            async with reaching(self._engine, "changing tokens"):
                # Changes of tokens happen one after the other, and their lines of the audit log in that order.
                await session.exec(select(ConfigurationRevisionRow.id).with_for_update())
                now = (await session.exec(select(func.clock_timestamp()))).one()
            yield PostgresTokenChange(session, self._engine, actor=actor, now=now)
            async with reaching(self._engine, "changing tokens"):
                await session.commit()

    async def tokens(self) -> Sequence[Token]:
        """Every token, in order of creation."""
        async with reaching(self._engine, "reading tokens"), AsyncSession(self._engine) as session:
            return [token_of(row) for row in await session.exec(_ALL)]

    async def current(self) -> Sequence[Token]:
        """Those that were not revoked, or not long ago; in number no more than a process can hold."""
        row = col(TokenRow.revoked_at)
        wanted = select(TokenRow).where(or_(row.is_(None), row > _REMEMBERED))
        # Those that still may open something come first.
        wanted = wanted.order_by(row.desc().nulls_first(), col(TokenRow.expires_at).desc().nulls_first())
        async with reaching(self._engine, "reading tokens"), AsyncSession(self._engine) as session:
            return [token_of(row) for row in await session.exec(wanted.limit(4 * MOST_TOKENS))]

    async def note_use(self, used: Mapping[str, float]) -> None:
        """When tokens were shown last, by id."""
        statement = (
            update(TokenRow.__table__)  # type: ignore[attr-defined]  # SQLModel makes it
            .where(col(TokenRow.id) == bindparam("token"))
            .values(last_used_at=func.greatest(TokenRow.last_used_at, bindparam("used_at")))
        )
        rows = [{"token": token, "used_at": moment(at)} for token, at in sorted(used.items())]
        async with reaching(self._engine, "noting the use of tokens"), self._engine.begin() as connection:
            await connection.execute(statement, rows)


class PostgresTokenChange:
    """A TokenChange; `PostgresTokens.change` begins and commits it."""

    def __init__(self, session: AsyncSession, engine: AsyncEngine, *, actor: str, now: datetime) -> None:
        self._session = session
        self._engine = engine
        self._actor = actor
        self._now = now

    @property
    def now(self) -> float:
        """The database's time."""
        return self._now.timestamp()

    async def tokens(self) -> Sequence[Token]:
        """Every token, in order of creation."""
        async with reaching(self._engine, "reading tokens"):
            return [token_of(row) for row in await self._session.exec(_ALL)]

    async def put(self, token: Token) -> None:
        """Add it, or write it anew. Raises Conflict: another valid one has its name."""
        record = _record(token)
        rest = {name: value for name, value in record.items() if name != "id"}
        statement = insert(TokenRow).values(record).on_conflict_do_update(index_elements=["id"], set_=rest)
        async with reaching(self._engine, "writing a token"):
            await self._session.exec(statement)

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Add a line to the audit log."""
        async with reaching(self._engine, "writing the audit log"):
            connection = await self._session.connection()
            await audit.append(connection, actor=self._actor, action=action, subject=subject, detail=detail)


def token_of(row: TokenRow) -> Token:
    """The token that a row holds."""
    return Token(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        digest=row.digest,
        created_by=row.created_by,
        created_at=row.created_at.timestamp(),
        expires_at=_seconds(row.expires_at),
        rotated_at=_seconds(row.rotated_at),
        former_digest=row.former_digest,
        former_until=_seconds(row.former_until),
        last_used_at=_seconds(row.last_used_at),
        revoked_at=_seconds(row.revoked_at),
        revoked_by=row.revoked_by,
    )


def _record(token: Token) -> dict[str, Any]:
    """All but when it was used, which is not the change's to say."""
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role.value,
        "digest": token.digest,
        "created_by": token.created_by,
        "created_at": moment(token.created_at),
        "expires_at": _moment(token.expires_at),
        "rotated_at": _moment(token.rotated_at),
        "former_digest": token.former_digest,
        "former_until": _moment(token.former_until),
        "revoked_at": _moment(token.revoked_at),
        "revoked_by": token.revoked_by,
    }


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _moment(at: float | None) -> datetime | None:
    return None if at is None else moment(at)


_ALL = select(TokenRow).order_by(col(TokenRow.created_at), col(TokenRow.id))
