"""When a process says how it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.service.process_report import ProcessReport
from waiting import PATIENCE, until


@dataclass
class Registry:
    """A ProcessRegistry in memory; a report waits for `open`, as one to a slow store does."""

    revisions: list[int] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    away: bool = False

    async def report(self, status: ProcessStatus) -> None:
        await self.open.wait()
        if self.away:
            raise StoreUnavailable("away")
        self.revisions.append(status.revision)

    async def withdraw(self, instance: str) -> None:
        self.withdrawn.append(instance)


class Process:
    """A process with a revision, that reports itself once an hour."""

    def __init__(self, registry: Registry) -> None:
        self.revision = 1
        self.report = ProcessReport(registry, status=self._status, interval=3_600)
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.report.run(self._stop))

    def _status(self) -> ProcessStatus:
        return ProcessStatus(
            role="router", instance="r", host="h", pid=1, started_at=0, revision=self.revision, counters={}
        )

    async def end(self) -> None:
        self._stop.set()
        async with asyncio.timeout(PATIENCE):
            await self._running


async def test_a_new_revision_is_reported_at_once_and_not_at_the_next_interval() -> None:
    registry = Registry()
    registry.open.set()
    process = Process(registry)
    await until(lambda: registry.revisions == [1])
    process.revision = 2
    process.report.soon()
    await until(lambda: registry.revisions == [1, 2])
    await process.end()
    assert registry.withdrawn == ["r"]


async def test_news_that_comes_during_a_report_makes_another_one() -> None:
    registry = Registry()
    process = Process(registry)
    await asyncio.sleep(0)
    process.revision = 2
    process.report.soon()
    await asyncio.sleep(0)
    process.revision = 3
    process.report.soon()
    registry.open.set()
    await until(lambda: registry.revisions[-1:] == [3])
    await process.end()


async def test_a_registry_that_is_away_does_not_keep_a_process_from_ending() -> None:
    registry = Registry(away=True)
    registry.open.set()
    process = Process(registry)
    process.report.soon()
    await process.end()
    assert registry.revisions == []
