"""Following the configuration: at once when it is announced, soon when it is not, and for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from multishadow_server.core.configuration import Configuration
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.configuration_watch import ConfigurationWatch
from waiting import PATIENCE, until


class FakeSource:
    """A configuration source in memory that announces what a test wants announced."""

    def __init__(self, revision: int = 1) -> None:
        self.present = revision
        self.away = False
        self.hangs = asyncio.Event()
        self.reads = 0
        self.listeners = 0
        self._announcements: asyncio.Queue[int | Exception] = asyncio.Queue()

    async def read(self) -> Configuration:
        await self._reach()
        self.reads += 1
        return Configuration(revision=self.present)

    async def revision(self) -> int:
        await self._reach()
        return self.present

    async def changes(self) -> AsyncIterator[int]:
        await self._reach()
        self.listeners += 1
        while isinstance(announced := await self._announcements.get(), int):
            yield announced
        raise announced

    def commit(self, *, announced: bool) -> None:
        self.present += 1
        if announced:
            self._announcements.put_nowait(self.present)

    def cut(self, error: Exception | None = None) -> None:
        self._announcements.put_nowait(error or StoreUnavailable("the connection is lost"))

    async def _reach(self) -> None:
        if self.hangs.is_set():
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("away")


class Clock:
    """The monotonic clock of a test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def watching(
    source: FakeSource, seen: list[int], *, check_interval: float = 3600.0, clock: Clock | None = None
) -> AsyncIterator[ConfigurationWatch]:
    def take(configuration: Configuration) -> None:
        if configuration.revision == 13:
            raise ValueError("thirteen")
        seen.append(configuration.revision)

    watch = ConfigurationWatch(
        source,
        on_change=take,
        check_interval=check_interval,
        patience=0.3,
        monotonic=clock or asyncio.get_running_loop().time,
    )
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_an_announced_change_is_read_without_waiting_for_the_check() -> None:
    source, seen = FakeSource(), list[int]()
    async with watching(source, seen) as watch:
        await until(watch.first_read.is_set)
        await until(lambda: source.listeners)
        source.commit(announced=True)
        await until(lambda: seen == [1, 2])
        assert watch.configuration.revision == 2


async def test_a_change_whose_announcement_was_missed_is_found_by_the_check() -> None:
    source, seen = FakeSource(), list[int]()
    async with watching(source, seen, check_interval=0.02) as watch:
        await until(watch.first_read.is_set)
        source.commit(announced=False)
        await until(lambda: seen == [1, 2])
        assert source.reads == 2  # the check asks for the revision alone


@pytest.mark.parametrize("error", [None, RuntimeError("of a kind that nobody thought of")])
async def test_listening_begins_anew_after_the_connection_was_lost(error: Exception | None) -> None:
    source, seen = FakeSource(), list[int]()
    async with watching(source, seen):
        await until(lambda: source.listeners == 1)
        source.cut(error)
        await until(lambda: source.listeners == 2)
        source.commit(announced=True)
        await until(lambda: seen == [1, 2])


@pytest.mark.parametrize("ticks", range(8))
async def test_an_announcement_never_swallows_the_end(ticks: int) -> None:
    source = FakeSource()
    watch = ConfigurationWatch(source, on_change=lambda _: None, check_interval=3600.0)
    task = asyncio.create_task(watch.run())
    await until(lambda: watch.first_read.is_set() and source.listeners == 1)
    source.commit(announced=True)
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    assert done


async def test_a_source_that_loses_a_cancellation_is_told_again() -> None:
    class Deaf(FakeSource):
        async def changes(self) -> AsyncIterator[int]:
            self.listeners += 1
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            async for revision in super().changes():
                yield revision

    source = Deaf()
    watch = ConfigurationWatch(source, on_change=lambda _: None, check_interval=3600.0)
    task = asyncio.create_task(watch.run())
    await until(lambda: source.listeners == 1)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    assert done


async def test_a_source_that_is_away_at_the_start_is_waited_for() -> None:
    source, seen = FakeSource(), list[int]()
    source.away = True
    async with watching(source, seen, check_interval=0.05) as watch:
        await until(lambda: watch._lost)
        assert watch.age == float("inf")
        source.away = False
        await until(watch.first_read.is_set)
        assert seen == [1]


async def test_the_age_grows_while_the_source_is_away_and_the_last_reading_stays() -> None:
    source, seen, clock = FakeSource(), list[int](), Clock()
    async with watching(source, seen, check_interval=0.01, clock=clock) as watch:
        await until(watch.first_read.is_set)
        source.away = True
        await until(lambda: watch._lost)
        clock.now += 25.0
        assert watch.age == 25.0
        assert watch.configuration.revision == 1
        source.away = False
        await until(lambda: watch.age == 0.0)


async def test_a_source_that_hangs_counts_as_away() -> None:
    source, seen, clock = FakeSource(), list[int](), Clock()
    async with watching(source, seen, check_interval=0.01, clock=clock) as watch:
        await until(watch.first_read.is_set)
        source.hangs.set()
        clock.now += 7.0
        await until(lambda: watch._lost)
        assert watch.age == 7.0


async def test_a_configuration_that_readers_choke_on_leaves_the_last_one_and_does_not_stop_the_next() -> None:
    source, seen, clock = FakeSource(12), list[int](), Clock()
    async with watching(source, seen, check_interval=0.01, clock=clock) as watch:
        await until(watch.first_read.is_set)
        source.commit(announced=True)
        await until(lambda: source.reads > 3)
        clock.now += 3.0
        assert (watch.configuration.revision, watch.age) == (12, 3.0)
        source.commit(announced=True)
        await until(lambda: seen == [12, 14])
