"""A worker process: keeps to its fair share of the partitions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multishadow_server.core import sharing
from multishadow_server.core.keeping import Keeper
from multishadow_server.errors import LeaseLost, LogUnavailable, MultishadowError, StoreUnavailable
from multishadow_server.service.ending import end
from multishadow_server.service.partition_work import PartitionWork, Workshop
from multishadow_server.service.ports import PartitionLeases

BALANCE_SECONDS = 0.5
SHORTEST_REST = 0.1
LONGEST_REST = 2.0
WORKED_SECONDS = 5.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quotas:
    """Most stored comparisons per epoch and hour, over all partitions."""

    divergent_per_hour: int
    sample_per_hour: int
    partitions: int

    def keeper(self, partition: int) -> Keeper:
        """One partition's share."""

        def share(total: int) -> int:
            return sharing.fair_share(total, place=partition, places=self.partitions)

        return Keeper(divergent_per_hour=share(self.divergent_per_hour), sample_per_hour=share(self.sample_per_hour))


@dataclass(slots=True, eq=False)
class _Job:
    """Work on one partition, under way."""

    work: PartitionWork
    task: asyncio.Task[None]
    stop: asyncio.Event
    began_at: float
    stop_by: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rest:
    """How long a partition is left alone after its work failed: longer each time, unless it worked for a while."""

    until: float
    seconds: float


class Worker:
    """Works on its share of the partitions.

    Args:
        leases: which partitions it may work on.
        workshop: what the partitions share.
        quotas: of stored comparisons.
        drain_seconds: longest time for finishing a partition's captures under way.
    """

    def __init__(self, *, leases: PartitionLeases, workshop: Workshop, quotas: Quotas, drain_seconds: float) -> None:
        self._leases = leases
        self._with = workshop
        self._quotas = quotas
        self._drain_seconds = drain_seconds
        self._jobs: dict[int, _Job] = {}
        self._rests: dict[int, _Rest] = {}
        # Kept when a partition goes and comes back, so that its quotas hold.
        self._keepers: dict[int, Keeper] = {}

    @property
    def share(self) -> float:
        """The part of the log's partitions that it works on, in [0, 1]."""
        return len(self._jobs) / self._quotas.partitions

    def counters(self, *, now: float) -> Mapping[str, int]:
        """What was counted since its start, and how it stands: partitions, captures under way, the oldest one's age.

        `now` is in seconds since the Unix epoch.
        """
        received = [job.work.oldest_received_at for job in self._jobs.values()]
        oldest = min((at for at in received if at is not None), default=now)
        return {
            **self._with.counters,
            "partitions": len(self._jobs),
            "under_way": self._with.under_way.captures,
            "lag_ms": max(0, round(1000 * (now - oldest))),
        }

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None]) -> None:
        """Work until `stop` is set, then drain and give all partitions back.

        `ready` is called once it has taken part in a first sharing-out.
        """
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                if await self._balance():
                    ready()
                    ready = _nothing
                await asyncio.wait({stopping, *self._tasks()}, timeout=BALANCE_SECONDS, return_when="FIRST_COMPLETED")
            await self._drain()
        finally:
            stopping.cancel()
            await self._abandon()
            await self._leases.aclose()

    async def _balance(self) -> bool:
        """Bring the jobs in line with the leases; False when the leases could not be looked at, and so are lost."""
        try:
            wanted = await self._leases.balance()
            await self._sweep(wanted)
        except StoreUnavailable as error:
            if self._with.outage.begins():
                _logger.warning("all partitions are given up until the store is back: %s", error)
            await self._abandon()
            return False
        if self._with.outage.ends():
            _logger.info("the store is back")
        for partition in wanted - self._jobs.keys():
            self._begin(partition)
        return True

    async def _sweep(self, wanted: frozenset[int]) -> None:
        """Clear away the jobs that ended, and stop those that somebody else should have."""
        for partition, job in list(self._jobs.items()):
            if job.task.done():
                del self._jobs[partition]
                self._learn(partition, job)
                if partition not in wanted:
                    await self._leases.release(partition)
            elif partition not in wanted:
                self._stop(job)

    def _begin(self, partition: int) -> None:
        rest = self._rests.get(partition)
        if rest is not None and time.monotonic() < rest.until:
            return
        keeper = self._keepers.setdefault(partition, self._quotas.keeper(partition))
        work, stop = PartitionWork(partition, self._with, keeper), asyncio.Event()
        task = asyncio.create_task(work.run(stop))
        self._jobs[partition] = _Job(work=work, task=task, stop=stop, began_at=time.monotonic())
        self._with.counters["partitions_begun"] += 1

    def _learn(self, partition: int, job: _Job) -> None:
        """Say why a job ended, and let its partition rest unless it ended in order."""
        error = None if job.task.cancelled() else job.task.exception()
        if error is None:
            self._rests.pop(partition, None)
            return
        if isinstance(error, LeaseLost):
            self._with.counters["lease_lost"] += 1
        if isinstance(error, StoreUnavailable):
            if self._with.outage.begins():
                _logger.warning("partitions begin anew when the store is back: %s", error)
        elif isinstance(error, LogUnavailable):
            if self._with.log_outage.begins():
                _logger.warning("partitions begin anew when the capture log is back: %s", error)
        elif isinstance(error, MultishadowError):
            _logger.warning("partition %d begins anew: %s", partition, error)
        else:
            _logger.error("partition %d failed and begins anew", partition, exc_info=error)
        before = self._rests.get(partition)
        worked = time.monotonic() - job.began_at > WORKED_SECONDS
        seconds = SHORTEST_REST if before is None or worked else min(LONGEST_REST, 2 * before.seconds)
        self._rests[partition] = _Rest(until=time.monotonic() + seconds, seconds=seconds)

    def _stop(self, job: _Job) -> None:
        job.stop.set()
        if job.stop_by is None:
            job.stop_by = time.monotonic() + self._drain_seconds
        elif time.monotonic() > job.stop_by:
            job.task.cancel()

    async def _drain(self) -> None:
        """Finish what is under way. Each partition is given back when it is done: another worker goes on with it."""
        until = time.monotonic() + self._drain_seconds
        for job in self._jobs.values():
            job.stop.set()
        try:
            await self._leases.leave()
            while self._jobs and (left := until - time.monotonic()) > 0:
                await asyncio.wait(self._tasks(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                await self._sweep(frozenset())
        except StoreUnavailable as error:
            # The leases are gone with the connection; what is under way is another's by now.
            _logger.warning("partitions are given up without their last captures: %s", error)

    async def _abandon(self) -> None:
        """End every job at once. What was under way is delivered again."""
        await end(*self._tasks())
        for partition, job in self._jobs.items():
            self._learn(partition, job)
        self._jobs.clear()

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {job.task for job in self._jobs.values()}


def _nothing() -> None:
    """It is ready already."""
