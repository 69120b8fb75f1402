"""What a report on an epoch is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from multishadow_server.core.gates import Record
from multishadow_server.core.rollup import Rollup
from multishadow_server.service.ports.control import FlagRecord


class EvidenceStore(Protocol):
    """What a report on an epoch is made from; a ControlStore is one. Every method raises StoreUnavailable."""

    async def rollup(self, epoch_id: int) -> Rollup:
        """An epoch's counts, summed over its buckets."""
        ...

    async def buckets(self, epoch_id: int, families: Sequence[str]) -> Mapping[int, Rollup]:
        """An epoch's counts of these families, by the bucket's start in seconds since the Unix epoch, oldest first."""
        ...

    async def flags_within(
        self, keys: Sequence[str], *, first_revision: int, last_revision: int | None
    ) -> Sequence[FlagRecord]:
        """Every definition that flags had between two revisions (None: to the present one), oldest first."""
        ...

    async def reviewed_of_top(self, epoch_id: int, version: str) -> tuple[int, int]:
        """Of a candidate's least similar divergent answers (at most ten): how many have a verdict, and how many are."""
        ...

    async def gate_records(self, epoch_id: int) -> Sequence[Record]:
        """Attestations and waivers of an epoch, oldest first."""
        ...
