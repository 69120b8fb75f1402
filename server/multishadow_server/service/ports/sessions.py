"""Open sessions of the log's partitions, and stored sessions for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from multishadow_server.core.assignments import FlagChange
from multishadow_server.core.observation import Observation
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.sessions import SessionChanges


class SessionStore(Protocol):
    """What workers read of sessions; they are written with a `Flush`. Every method raises StoreUnavailable."""

    async def open_sessions(self, log_id: str, partition: int) -> SessionChanges:
        """A partition's open sessions, and the log's time, as they were committed."""
        ...

    async def flag_changes(self, keys: Sequence[str], *, since: float) -> Sequence[FlagChange]:
        """What flags said from a time on (seconds since the Unix epoch), and for each the last change before it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTurn:
    """One stored comparison of a session; `attributes` are the request's."""

    comparison_id: int
    session_id: str
    request_id: str
    received_at: float
    attributes: Mapping[str, Any]
    request: bytes
    response: bytes
    observations: Sequence[Observation]
    payloads: Payloads


class SessionRecords(Protocol):
    """Stored comparisons by their session. Every method raises StoreUnavailable."""

    async def divergent_sessions(self, epoch_id: int, *, version: str, most: int) -> Sequence[StoredTurn]:
        """All stored turns, without bytes, of the newest sessions in which a candidate (empty: any) was bad."""
        ...

    async def session(self, epoch_id: int, session_id: str) -> Sequence[StoredTurn]:
        """The stored turns of one session, as they were received."""
        ...
