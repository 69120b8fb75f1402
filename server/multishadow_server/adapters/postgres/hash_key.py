"""The deployment's key for hashes: a setting, or made once and kept here."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.tables import HashKeyRow
from multishadow_server.core.redaction import Seal
from multishadow_server.errors import FailedPrecondition

_PROVED = b"multishadow: every process has this key"


class PostgresHashKey:
    """A SealSource.

    Args:
        engine: see `open_engine`.
        given: MULTISHADOW_HASH_KEY; None makes a key and keeps it in the database.
    """

    def __init__(self, engine: AsyncEngine, *, given: str | None) -> None:
        self._engine = engine
        self._given = given
        self._seal: Seal | None = None

    async def seal(self) -> Seal:
        """The key; the first process that asks decides on it.

        Raises:
            StoreUnavailable: the database is away.
            FailedPrecondition: the deployment has another key: its hashes would not be recognised any more.
        """
        if self._seal is None:
            self._seal = await self._read()
        return self._seal

    async def _read(self) -> Seal:
        given = None if self._given is None else hashlib.sha256(self._given.encode()).digest()
        made = given or secrets.token_bytes(32)
        first = insert(HashKeyRow).values(id=1, key=None if given else made, proof=_proof(made), made_at=func.now())
        async with reaching(self._engine, "reading the key of hashes"), AsyncSession(self._engine) as session:
            row = (await session.exec(select(HashKeyRow))).one_or_none()
            if row is None:
                await session.exec(first.on_conflict_do_nothing())
                await session.commit()
                row = (await session.exec(select(HashKeyRow))).one()
        key = given or row.key
        if key is None or _proof(key) != row.proof:
            raise FailedPrecondition(_DIFFERENT if given else _MISSING)
        return Seal(key)


def _proof(key: bytes) -> bytes:
    return Seal(key).of(_PROVED)


_MISSING = (
    "this deployment's key for hashes is a setting: give every worker and control the MULTISHADOW_HASH_KEY that the "
    "others have"
)
_DIFFERENT = (
    "MULTISHADOW_HASH_KEY is not the key that this deployment's hashes were made with; give every worker and control "
    "the same one. To begin with another (equal values of before are not recognised then): DELETE FROM hash_key"
)
