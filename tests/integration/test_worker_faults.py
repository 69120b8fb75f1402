"""Engines restart, workers come, go and lose touch: afterwards every capture counts exactly once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.jetstream_log import ensure_stream
from multishadow_server.adapters.postgres.migration import migrate
from multishadow_server.settings import Settings
from shadowed_traffic import Stage, append, staged, working
from version_servers import answering, diverging, gated
from waiting import until

PER_BURST = 60


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return _settings(database_url, nats_url, log_name)


def _settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=4,
        worker_linger=0.02,
        report_interval=0.1,
    )


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    engine = EmbeddedNats(tmp_path / "nats")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    engine = EmbeddedPostgres(tmp_path / "postgres")
    migrate(engine.start())
    yield engine
    engine.stop()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restarted_log_loses_nothing_and_repeats_nothing(
    own_nats: EmbeddedNats, database_url: str, log_name: str, how: str
) -> None:
    settings = _settings(database_url, own_nats.url, log_name)
    async with staged(settings, {"A": answering(), "B": diverging(0.5)}) as stage, working(settings):
        for burst in range(3):
            await _begin_burst(stage, burst)
            await asyncio.to_thread(getattr(own_nats, how))
            await asyncio.to_thread(own_nats.start)
        await append(stage.log, stage.captures(PER_BURST, prefix="last"), per_message=3)
        await stage.counts.reach(2 * 4 * PER_BURST)
        await until(stage.drained)
        by_version = await stage.counts.by_version()
        assert by_version == {"A": 4 * PER_BURST, "B": 4 * PER_BURST}


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restarted_store_loses_nothing_and_counts_nothing_twice(
    own_postgres: EmbeddedPostgres, nats_url: str, log_name: str, how: str
) -> None:
    settings = _settings(own_postgres.url("multishadow"), nats_url, log_name)
    async with staged(settings, {"A": answering(), "B": diverging(0.5)}) as stage, working(settings):
        for burst in range(3):
            await _begin_burst(stage, burst)
            await asyncio.to_thread(getattr(own_postgres, how))
            await asyncio.to_thread(own_postgres.start)
        await append(stage.log, stage.captures(PER_BURST, prefix="last"), per_message=3)
        await until(stage.drained)
        by_version = await stage.counts.by_version()
        assert by_version == {"A": 4 * PER_BURST, "B": 4 * PER_BURST}


async def test_captures_logged_while_the_store_is_away_are_counted_when_it_is_back(
    own_postgres: EmbeddedPostgres, nats_url: str, log_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(own_postgres.url("multishadow"), nats_url, log_name)
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(10, prefix="before"))
        await stage.counts.reach(10)
        # Killed, so that it is away for all at once: as it stops in order, it ends one session after the other.
        await asyncio.to_thread(own_postgres.kill)
        await append(stage.log, stage.captures(50, prefix="away"))
        await until(lambda: _warnings_of_workers(caplog))
        await asyncio.to_thread(own_postgres.start)
        await until(stage.drained)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 60})
    # Four partitions and their leases lost it at once; that is one piece of news.
    assert len(_warnings_of_workers(caplog)) == 1


async def test_while_there_is_no_log_a_worker_says_so_once_and_goes_on_when_it_is_back(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "multishadow_server.service")
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(10, prefix="before"))
        await stage.counts.reach(10)
        await stage.client.jetstream().delete_stream(settings.log_name)
        # Four partitions, three times each: the first time they lost it, then they did not find it.
        await until(lambda: stage.counted("partitions_begun", least=12))
        (warning,) = _warnings_of_workers(caplog)
        assert "partitions begin anew when the capture log is back" in warning
        await ensure_stream(stage.client.jetstream(), settings)
        await append(stage.log, stage.captures(10, prefix="after"))
        await stage.counts.reach(20)
    assert "the capture log is back" in caplog.messages


async def test_two_workers_share_the_partitions_and_the_one_left_takes_all(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings, instance="first"):
        await until(lambda: stage.partitions_of("first", equals=4))
        async with working(settings, instance="second"):
            await until(lambda: stage.partitions_of("first", equals=2))
            await until(lambda: stage.partitions_of("second", equals=2))
            await append(stage.log, stage.captures(80))
            await stage.counts.reach(80)
        await until(lambda: stage.partitions_of("first", equals=4))
        await append(stage.log, stage.captures(80, prefix="after"))
        await stage.counts.reach(160)
        await until(stage.drained)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 160})


async def test_a_worker_that_lost_its_leases_under_way_is_fenced(settings: Settings) -> None:
    gate = asyncio.Event()
    async with staged(settings, {"A": gated(gate)}) as stage:
        async with working(settings, instance="zombie"), working(settings, instance="heir"):
            await until(lambda: stage.partitions_of("zombie", equals=2))
            await until(lambda: stage.partitions_of("heir", equals=2))
            await append(stage.log, stage.captures(40))
            await until(lambda: stage.servers["A"].under_way == 40)
            # Every lease is lost at once, while all captures are under way; whoever takes a partition begins anew.
            _end_lease_sessions(str(settings.database_url))
            await until(lambda: stage.servers["A"].calls.total() >= 60)
            gate.set()
            await stage.counts.reach(40)
            await until(stage.drained)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 40})


def _warnings_of_workers(caplog: pytest.LogCaptureFixture) -> list[str]:
    working = ("multishadow_server.service.worker", "multishadow_server.service.partition_work")
    return [record.message for record in caplog.records if record.name in working and record.levelname == "WARNING"]


def _end_lease_sessions(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM (SELECT DISTINCT pid FROM pg_locks "
            "WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())) AS held"
        ).fetchone()
    assert ended == (2,)


async def _begin_burst(stage: Stage, burst: int) -> None:
    """Log a burst of captures and return when a worker is in the middle of it."""
    await append(stage.log, stage.captures(PER_BURST, prefix=f"burst-{burst}"), per_message=3)
    await until(lambda: stage.servers["A"].calls.total() > PER_BURST * burst)
