"""Tokens, made on the database itself: the first one, and the way back in for who has none that opens anything."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres.access import PostgresTokens
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.core.access import Token
from multishadow_server.errors import InvalidInput
from multishadow_server.service import tokens
from multishadow_server.service.tokens import Issued
from multishadow_server.settings import Settings


async def create(settings: Settings, *, name: str, role: str, life: float | None) -> Issued:
    """Make one; see `tokens.create`."""
    async with _store(settings) as store:
        return await tokens.create(store, name=name, role=role, life=life, actor=_actor())


async def list_tokens(settings: Settings) -> Sequence[Token]:
    """Every token, in order of creation."""
    async with _store(settings) as store:
        return await tokens.list_tokens(store, all_of_them=True)


async def revoke(settings: Settings, named: str, *, reason: str) -> Token:
    """End one; see `tokens.revoke`."""
    async with _store(settings) as store:
        return await tokens.revoke(store, named, reason=reason, actor=_actor())


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[PostgresTokens]:
    """On the database that is named, or on that of `serve` in the data folder, whether or not it runs.

    Raises:
        InvalidInput: there is neither.
        EngineFailed: the one in the data folder does not start.
    """
    embedded = None
    url = settings.database_url
    if url is None:
        folder = settings.data_dir / "postgres"
        if not (folder / "PG_VERSION").exists():
            raise InvalidInput(
                f"which database? Give --database-url, or set MULTISHADOW_DATABASE_URL; {settings.data_dir} holds none"
            )
        embedded = EmbeddedPostgres(folder)
        url = embedded.start()
    engine = open_engine(url, pool_size=1)
    try:
        yield PostgresTokens(engine)
    finally:
        await engine.dispose()
        if embedded is not None:
            embedded.stop()


def _actor() -> str:
    """Who can reach the database needs no token: the audit log says that this was the way."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (on the database)"
