"""A token store in memory, that a test can take away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from multishadow_server.core import access
from multishadow_server.core.access import Role, Token
from multishadow_server.errors import StoreUnavailable

NOON = 1_795_435_200.0


class MemoryTokens:
    """A TokenStore, and the one change of it.

    Attributes:
        held: by id.
        lines: of the audit log, as (actor, action, subject, detail).
        reads: how often they were read.
        away: the database is.
        now: its time.
    """

    def __init__(self, *tokens: Token) -> None:
        self.held = {token.id: token for token in tokens}
        self.lines: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.uses: list[Mapping[str, float]] = []
        self.reads = 0
        self.away = False
        self.now = NOON
        self._actor = ""

    @asynccontextmanager
    async def change(self, actor: str) -> AsyncIterator[MemoryTokens]:
        self._actor = actor
        yield self

    async def tokens(self) -> Sequence[Token]:
        return list(self.held.values())

    async def current(self) -> Sequence[Token]:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("it is away")
        return list(self.held.values())

    async def put(self, token: Token) -> None:
        self.held[token.id] = token

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.lines.append((self._actor, action, subject, detail))

    async def note_use(self, used: Mapping[str, float]) -> None:
        self.uses.append(dict(used))


def a_token(name: str, role: Role = Role.VIEWER, *, letter: str = "a", **more: Any) -> tuple[Token, str]:
    """A token, and the text that its holder shows."""
    secret = letter * 64
    token = Token(
        id=letter * access.ID_LENGTH,
        name=name,
        role=role,
        digest=access.digest_of(secret),
        created_by="ann",
        created_at=NOON,
        **more,
    )
    return token, access.text_of(token.id, secret)
