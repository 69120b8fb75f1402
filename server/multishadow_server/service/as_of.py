"""What the store would have said of an epoch at an earlier time, for a report on a week that is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core.gates import Record
from multishadow_server.core.rollup import Rollup
from multishadow_server.service.ports import EvidenceStore, FlagRecord, WeeklyReportStore


@dataclass(frozen=True, kw_only=True, slots=True)
class AsOf:
    """An EvidenceStore that knows nothing of what came after a time.

    Labels, and verdicts of people, count in the time bucket of their request, whenever they were given.

    Args:
        store: knows everything.
        reports: sums counts up to a time.
        until: seconds since the Unix epoch; a time bucket is in when it started before.
    """

    store: EvidenceStore
    reports: WeeklyReportStore
    until: float

    async def rollup(self, epoch_id: int) -> Rollup:
        """An epoch's counts, summed over its buckets so far."""
        return await self.reports.rollup_until(epoch_id, self.until)

    async def buckets(self, epoch_id: int, families: Sequence[str]) -> Mapping[int, Rollup]:
        """An epoch's counts of these families by bucket, so far."""
        found = await self.store.buckets(epoch_id, families)
        return {start: rollup for start, rollup in found.items() if start < self.until}

    async def flags_within(
        self, keys: Sequence[str], *, first_revision: int, last_revision: int | None
    ) -> Sequence[FlagRecord]:
        """Every definition that flags had between two revisions, so far."""
        found = await self.store.flags_within(keys, first_revision=first_revision, last_revision=last_revision)
        return [record for record in found if record.changed_at < self.until]

    async def reviewed_of_top(self, epoch_id: int, version: str) -> tuple[int, int]:
        """Of a candidate's least similar divergent answers: how many have a verdict by now, and how many are."""
        return await self.store.reviewed_of_top(epoch_id, version)

    async def gate_records(self, epoch_id: int) -> Sequence[Record]:
        """Attestations and waivers of an epoch so far, oldest first."""
        return [record for record in await self.store.gate_records(epoch_id) if record.at < self.until]
