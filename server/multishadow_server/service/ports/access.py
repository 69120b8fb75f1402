"""Where tokens and the audit log are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from multishadow_server.core.access import Token


class TokenChange(Protocol):
    """One change of the tokens: a transaction, in which nobody else changes any."""

    @property
    def now(self) -> float:
        """The database's time, seconds since the Unix epoch."""
        ...

    async def tokens(self) -> Sequence[Token]:
        """Every token, in order of creation."""
        ...

    async def put(self, token: Token) -> None:
        """Add it, or write it anew. Raises Conflict: another valid one has its name."""
        ...

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Add a line to the audit log, in the change's actor's name."""
        ...


class TokenStore(Protocol):
    """Where tokens are. Every method raises StoreUnavailable when the database is away."""

    def change(self, actor: str) -> AbstractAsyncContextManager[TokenChange]:
        """Begin a change; leaving the block commits, an exception in it undoes everything."""
        ...

    async def tokens(self) -> Sequence[Token]:
        """Every token, in order of creation."""
        ...

    async def current(self) -> Sequence[Token]:
        """Those that were not revoked, or not long ago; in number no more than a process can hold."""
        ...

    async def note_use(self, used: Mapping[str, float]) -> None:
        """When tokens were shown last, by id; what is older than what is known changes nothing."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditQuery:
    """Which lines of the audit log.

    Args:
        since, until: seconds since the Unix epoch; `until` is not included. None is without bound.
        actor: of whom; also what they did in somebody's name. Empty for all.
        action: what was done; empty for all.
        subject: what it was done to, or anything of it: `spam` is also `spam.A`. Empty for all.
        before, after: lines older, or newer, than the one with this id; None is without bound. With `after` the oldest
            come first, otherwise the newest.
        most: at most so many.
    """

    since: float | None = None
    until: float | None = None
    actor: str = ""
    action: str = ""
    subject: str = ""
    before: int | None = None
    after: int | None = None
    most: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditLine:
    """One line of the audit log. A line with a larger id was committed later."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


class AuditLog(Protocol):
    """What was changed, by whom."""

    async def lines(self, query: AuditQuery) -> Sequence[AuditLine]:
        """The lines that were asked for. Raises StoreUnavailable."""
        ...
