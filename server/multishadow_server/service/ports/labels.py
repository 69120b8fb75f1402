"""Where labels are kept and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from multishadow_server.core.labels import Answered, Marked
from multishadow_server.core.prediction import Json
from multishadow_server.core.rollup import Rollup
from multishadow_server.service.ports.privacy import SealSource


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRecord:
    """A label as it is stored.

    Args:
        model, request_id: whose it is.
        value: what the right answer is said to be.
        recorded_by: who said so.
        epoch_id, bucket_start: where it counts, the latter in whole seconds since the Unix epoch; None while it waits
            for its request.
        marks: what it counts for; none while it waits.
    """

    model: str
    request_id: str
    value: Json
    recorded_by: str
    epoch_id: int | None = None
    bucket_start: int | None = None
    marks: tuple[Marked, ...] = ()


class LabelChange(Protocol):
    """One change of the labels of one model: a transaction that holds the locks of the labels that it touches."""

    async def claim(self, values: Mapping[str, Json], *, actor: str) -> Mapping[str, LabelRecord]:
        """Lock the labels of these requests, and return those that were there; the others wait from now on."""
        ...

    async def arrived(self, *, most: int) -> Sequence[LabelRecord]:
        """Lock labels that still wait although their request's answers are there by now."""
        ...

    async def answers(self, request_ids: Collection[str], *, since: float) -> Mapping[str, Answered]:
        """The first answers that were kept of each of these requests, if it was received after `since`."""
        ...

    async def put(self, records: Sequence[LabelRecord]) -> None:
        """Write what these labels are, and what they count for."""
        ...

    async def add(self, rollups: Mapping[tuple[int, int], Rollup]) -> None:
        """Add counts by (epoch id, start of the bucket in seconds since the Unix epoch); they may be negative."""
        ...

    async def count(self, tally: Mapping[str, int]) -> None:
        """Add to what the model's labels came to."""
        ...

    async def audit(self, action: str, detail: Mapping[str, Any], *, actor: str) -> None:
        """Add a line to the audit log."""
        ...

    async def forget(self, *, before: float) -> int:
        """Delete labels that were recorded before then; returns how many of them still waited."""
        ...


class LabelStore(SealSource, Protocol):
    """Where labels are, and the key of the ids of their requests that are stored as hashes."""

    def change(self, model: str) -> AbstractAsyncContextManager[LabelChange]:
        """Change labels; leaving the block commits, an exception in it undoes everything. Raises StoreUnavailable."""
        ...

    async def tally(self, model: str) -> Mapping[str, int]:
        """How many of a model's labels came to what, and how many wait for their request. Raises StoreUnavailable."""
        ...
