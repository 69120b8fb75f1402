"""What storing under privacy terms needs of the world, and what stored traffic is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from multishadow_server.core.model import Model
from multishadow_server.core.redaction import Seal


class SealSource(Protocol):
    """Where the deployment's key for hashes is."""

    async def seal(self) -> Seal:
        """The one that every process has.

        Raises:
            StoreUnavailable: the database is away.
            FailedPrecondition: this process was given another key than the deployment's.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTraffic:
    """What one table holds of a model in one form.

    Args:
        what: "comparisons", "answers" or "labels".
        payloads: the form; empty for labels.
        rows: how many.
        size: of their contents as they are stored, bytes.
        oldest_at: of the oldest one's request, seconds since the Unix epoch.
    """

    what: str
    payloads: str
    rows: int
    size: int
    oldest_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which stored traffic of a model; of all that are None nothing is asked.

    Args:
        before: received before then, seconds since the Unix epoch.
        request_ids: of one of these requests, in every form that an id is stored in.
        session_ids: likewise, of one of these sessions.
    """

    before: float | None = None
    request_ids: tuple[str, ...] | None = None
    session_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Erased:
    """How many rows are gone, and how many bytes of disk the tables take less."""

    comparisons: int = 0
    answers: int = 0
    labels: int = 0
    dead_letters: int = 0
    bytes_freed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """What holding stored traffic to other terms came to; see `multishadow.v1.ApplyPrivacyResponse`."""

    examined: int = 0
    rewritten: int = 0
    deleted: int = 0
    labels_rewritten: int = 0
    levels_merged: int = 0
    bytes_freed: int = 0


class TrafficStore(SealSource, Protocol):
    """Stored traffic as a whole. Every method raises StoreUnavailable."""

    async def stored(self, model: str) -> Sequence[StoredTraffic]:
        """What is stored of a model's traffic, by table and form."""
        ...

    async def rewrite(self, model: Model) -> Rewritten:
        """Hold what is stored to the model's terms. Repeating it goes on where it was interrupted."""
        ...

    async def erase(self, model: str, selection: Selection) -> Erased:
        """Delete rows and free their space. Repeating it goes on where it was interrupted."""
        ...

    async def count(self, model: str, selection: Selection) -> Erased:
        """What `erase` would delete."""
        ...

    async def audit(self, action: str, model: str, detail: Mapping[str, Any], *, actor: str) -> None:
        """Add a line to the audit log."""
        ...
