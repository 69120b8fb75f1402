"""Stored comparisons by day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations, PostgresRetention
from multishadow_server.adapters.postgres.condensing import RollupCondensing
from multishadow_server.adapters.postgres.retention import prepare_days
from multishadow_server.errors import StoreUnavailable
from store_fixtures import BUCKET, comparison, counts, flush, noon_today, open_first_epoch, opened, partition, rows
from waiting import PATIENCE, until

DAY = 86_400
HOLDERS = "SELECT tableoid::regclass::text, count(*) FROM comparison GROUP BY 1 ORDER BY 1"
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'comparison'::regclass ORDER BY 1"
# Who wants the table for itself, and does not have it.
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE relation = 'comparison'::regclass AND mode = 'AccessExclusiveLock' "
    "AND NOT granted"
)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(database_url) as engine:
        yield engine


async def store_on(engine: AsyncEngine, *days: datetime) -> None:
    """Store a comparison received on each of these days."""
    epoch = await open_first_epoch(PostgresControl(engine))
    samples = [comparison(epoch, received_at=day.timestamp()) for day in days]
    await PostgresObservations(engine).commit(flush(epoch, previous=0, offset=1, comparisons=samples))


def unprepare(database_url: str, *days: datetime) -> None:
    """As if nobody had kept the partitions for a while."""
    with psycopg.connect(database_url) as connection:
        for day in days:
            connection.execute(f"DROP TABLE IF EXISTS {partition(day)}".encode())


async def test_comparisons_go_to_their_days_partition(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    tomorrow = today + timedelta(days=1)
    await store_on(engine, today, today, tomorrow)
    assert rows(database_url, HOLDERS) == [(partition(today), 2), (partition(tomorrow), 1)]


async def test_days_past_retention_are_dropped_and_the_others_kept(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    await store_on(engine, yesterday, today, tomorrow)
    await PostgresRetention(engine, keep_days=0).enforce()
    assert rows(database_url, HOLDERS) == [(partition(today), 1), (partition(tomorrow), 1)]
    await PostgresRetention(engine, keep_days=0).enforce()
    assert (partition(yesterday),) not in rows(database_url, PARTITIONS)


async def test_late_comparisons_beyond_retention_are_dropped_too(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    await store_on(engine, today - timedelta(days=29), today - timedelta(days=31))
    assert rows(database_url, HOLDERS) == [("comparison_default", 2)]
    await PostgresRetention(engine, keep_days=30).enforce()
    assert rows(database_url, HOLDERS) == [("comparison_default", 1)]


async def test_days_that_were_not_made_in_time_move_out_of_the_default_partition(
    engine: AsyncEngine, database_url: str
) -> None:
    today = noon_today(database_url)
    unprepare(database_url, today)
    await store_on(engine, today)
    assert rows(database_url, HOLDERS) == [("comparison_default", 1)]
    await PostgresRetention(engine, keep_days=30).enforce()
    assert rows(database_url, HOLDERS) == [(partition(today), 1)]


async def test_a_partition_made_later_is_like_the_first_ones(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    shape = (
        "SELECT conname, contype::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = "
        f"'{partition(today)}'::regclass AND contype IN ('p', 'f') ORDER BY 3"
    )
    parent = shape.replace(partition(today), "comparison")
    unprepare(database_url, today)
    await PostgresRetention(engine, keep_days=30).enforce()
    assert [row[1:] for row in rows(database_url, shape)] == [row[1:] for row in rows(database_url, parent)]


async def test_several_processes_may_keep_the_days_at_once(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    unprepare(database_url, *(today + timedelta(days=ahead) for ahead in range(5)))
    await asyncio.gather(*(PostgresRetention(engine, keep_days=30).enforce() for _ in range(4)))
    made = {name for (name,) in rows(database_url, PARTITIONS)}
    assert made >= {partition(today + timedelta(days=ahead)) for ahead in range(5)}


async def prepared(engine: AsyncEngine, database_url: str) -> datetime:
    """See to it that no day is missing and the only one that is over is yesterday's; returns noon of today."""
    await PostgresRetention(engine, keep_days=1).enforce()
    async with engine.begin() as connection:
        await connection.run_sync(prepare_days)
    return noon_today(database_url)


async def test_nobody_waits_behind_a_day_that_is_dropped_while_somebody_reads_it(
    engine: AsyncEngine, database_url: str
) -> None:
    today = await prepared(engine, database_url)
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    epoch = await open_first_epoch(PostgresControl(engine))
    store, retention = PostgresObservations(engine), PostgresRetention(engine, keep_days=0)
    with psycopg.connect(database_url) as reader, psycopg.connect(database_url, autocommit=True) as watch:
        reader.execute("SELECT count(*) FROM comparison")
        keeping = asyncio.create_task(retention.enforce())
        for asked in range(2):  # and it asks again
            await until(lambda: watch.execute(WAITING).fetchone() == (1,))
            for step in range(10 * asked, 10 * asked + 10):
                sample = comparison(epoch, received_at=tomorrow.timestamp())
                # Waits for a lock for so long at most, and would fail.
                async with asyncio.timeout(5):
                    await store.commit(flush(epoch, previous=step, offset=step + 1, comparisons=[sample]))
            await until(lambda: watch.execute(WAITING).fetchone() == (0,))
        assert not keeping.done()
        assert (partition(yesterday),) in rows(database_url, PARTITIONS)
    await keeping
    assert (partition(yesterday),) not in rows(database_url, PARTITIONS)
    assert rows(database_url, HOLDERS) == [(partition(tomorrow), 20)]


async def test_a_reader_of_answers_and_then_of_comparisons_is_not_ended_for_a_deadlock(
    engine: AsyncEngine, database_url: str
) -> None:
    yesterday = await prepared(engine, database_url) - timedelta(days=1)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM answer")
        keeping = asyncio.create_task(PostgresRetention(engine, keep_days=0).enforce())
        await until(lambda: (partition(yesterday),) not in rows(database_url, PARTITIONS))
        assert reader.execute("SELECT count(*) FROM comparison").fetchone() == (0,)
        assert not keeping.done(), "it waits for the reader to be done with answers"
    await keeping
    assert rows(database_url, f"SELECT to_regclass('answer_{yesterday:%Y%m%d}')") == [(None,)]


async def test_a_day_that_is_read_for_too_long_is_dropped_the_next_time_and_the_rest_is_done(
    engine: AsyncEngine, database_url: str
) -> None:
    yesterday = await prepared(engine, database_url) - timedelta(days=1)
    retention = PostgresRetention(engine, keep_days=0, patience=0.0)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM comparison")
        with pytest.raises(
            StoreUnavailable, match="is busy: somebody else has locked what is needed for keeping the days"
        ):
            await retention.enforce()
        assert (partition(yesterday),) in rows(database_url, PARTITIONS)
        assert rows(database_url, f"SELECT to_regclass('answer_{yesterday:%Y%m%d}')") == [(None,)]
    await retention.enforce()
    assert (partition(yesterday),) not in rows(database_url, PARTITIONS)
    assert retention.counters()["retention.days_expired"] == 2, "yesterday's answers, and comparisons"


async def test_workers_go_on_while_days_are_made_and_dropped(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    epoch = await open_first_epoch(PostgresControl(engine))
    store, retention = PostgresObservations(engine), PostgresRetention(engine, keep_days=30)

    async def work(partition_number: int) -> None:
        sample = comparison(epoch, received_at=today.timestamp())
        for step in range(20):
            await store.commit(
                flush(epoch, partition=partition_number, previous=step, offset=step + 1, comparisons=[sample])
            )

    async def keep() -> None:
        for _ in range(5):
            await asyncio.to_thread(unprepare, database_url, today + timedelta(days=5))
            await retention.enforce()

    await asyncio.gather(work(0), work(1), keep())
    assert rows(database_url, HOLDERS) == [(partition(today), 40)]


async def test_processes_that_ended_without_a_word_are_forgotten_after_a_day(
    engine: AsyncEngine, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        for instance, age in (("fresh", "23 hours"), ("dead", "25 hours")):
            connection.execute(
                "INSERT INTO process (role, instance, host, pid, started_at, revision, counters, seen_at) "
                "VALUES ('worker', %s, 'host', 1, now(), 0, '{}', now() - %s::interval)",
                (instance, age),
            )
    await PostgresRetention(engine, keep_days=30).enforce()
    assert [process.instance for process in await PostgresControl(engine).processes()] == ["fresh"]


async def test_open_sessions_that_nobody_works_on_are_forgotten_after_a_month(
    engine: AsyncEngine, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        for session, age in ((b"fresh", "29 days"), (b"stale", "31 days")):
            connection.execute(
                "INSERT INTO open_session (log_id, partition, model, session_id, epoch_id, last_at, state) "
                "VALUES ('log', 0, 'spam', %s, 1, now() - %s::interval, '{}')",
                (session, age),
            )
    await PostgresRetention(engine, keep_days=30).enforce()
    assert rows(database_url, "SELECT session_id FROM open_session") == [(b"fresh",)]


async def test_the_days_are_kept_from_the_start_of_a_role_to_its_end(engine: AsyncEngine, database_url: str) -> None:
    today = noon_today(database_url)
    unprepare(database_url, today)
    stop = asyncio.Event()
    keeping = asyncio.create_task(PostgresRetention(engine, keep_days=30).run(stop))
    await until(lambda: (partition(today),) in rows(database_url, PARTITIONS))
    stop.set()
    await asyncio.wait_for(keeping, PATIENCE)


async def test_days_are_kept_again_after_postgresql_was_away(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    async with opened("postgresql://ada@127.0.0.1:1/multishadow") as nowhere:
        keeping = asyncio.create_task(PostgresRetention(nowhere, keep_days=30).run(stop))
        await until(lambda: "days of comparisons are kept later" in caplog.text)
        assert not keeping.done()
        stop.set()
        await asyncio.wait_for(keeping, PATIENCE)


async def test_inputs_seen_in_logs_long_gone_are_forgotten_and_offsets_stay(
    engine: AsyncEngine, database_url: str
) -> None:
    logs = [f"{name}@2026-0{month}-01T00:00:00+00:00" for name in ("captures", "other") for month in (1, 2, 3)]
    for log in logs[:-1]:
        rows(database_url, f"INSERT INTO partition_offset VALUES ('{log}', 0, 7) RETURNING 1")
        rows(database_url, f"INSERT INTO seen_inputs VALUES ('{log}', 0, 1, 'keys') RETURNING 1")
    await PostgresRetention(engine, keep_days=30).enforce()
    kept = [log for (log,) in rows(database_url, "SELECT log_id FROM seen_inputs ORDER BY 1")]
    assert kept == [logs[1], logs[2], logs[3], logs[4]]
    assert rows(database_url, "SELECT count(*) FROM partition_offset") == [(5,)]


async def test_an_epoch_that_ended_long_ago_keeps_its_totals_and_not_its_hours(
    engine: AsyncEngine, database_url: str
) -> None:
    store = PostgresControl(engine)
    epoch = await open_first_epoch(store)
    hours = {(epoch.id, BUCKET + 3600 * hour): counts(hour + 1) for hour in range(5)}
    await PostgresObservations(engine).commit(flush(epoch, previous=0, offset=1, rollups=hours))
    before = await store.rollup(epoch.id)
    condensing = RollupCondensing(engine, after_days=90)
    assert await condensing.condense() == 0, "it is open"
    closed = "UPDATE epoch SET until_revision = from_revision, closed_at = now() - interval '{} days' RETURNING 1"
    rows(database_url, closed.format(89))
    assert await condensing.condense() == 0, "it may be asked about by the hour"
    rows(database_url, closed.format(91))
    assert await condensing.condense() == 4
    assert await store.rollup(epoch.id) == before
    assert rows(database_url, "SELECT n::int, extract(epoch FROM bucket_start)::int FROM rollup") == [(15, BUCKET)]
    assert await condensing.condense() == 0
