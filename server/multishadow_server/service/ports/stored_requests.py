"""Requests of stored comparisons, to be sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Protocol

from multishadow_server.core.replay import Replayable


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFilter:
    """Which stored requests; times are seconds since the Unix epoch, `experiment_id` 0 is any.

    `diverged`: only those on which some candidate diverged or failed. `most`: at most so many, the newest.
    """

    model: str
    experiment_id: int = 0
    since: float | None = None
    until: float | None = None
    diverged: bool = False
    most: int


class StoredKey(NamedTuple):
    """Where a stored comparison is."""

    day: date
    id: int


class StoredRequests(Protocol):
    """Requests of stored comparisons. Every method raises StoreUnavailable."""

    async def find(self, wanted: RequestFilter) -> Sequence[StoredKey]:
        """Those that are there, in the order in which they were received."""
        ...

    async def load(self, keys: Sequence[StoredKey]) -> Sequence[Replayable]:
        """In this order, without those that were deleted meanwhile."""
        ...
