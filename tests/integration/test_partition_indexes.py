"""Indexes that are built on partitions while others write to them."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from alembic import command
from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import OperationalError

from multishadow_server.adapters.postgres import PostgresControl, migrate, partition_indexes
from multishadow_server.adapters.postgres.engine import driver_url
from multishadow_server.adapters.postgres.migration import alembic_config
from multishadow_server.adapters.postgres.observations import PostgresObservations
from store_fixtures import comparison, flush, open_first_epoch, opened, rows
from waiting import PATIENCE

INVALID = "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE NOT indisvalid"
# Of each index of the table, how many partitions have a part of it.
PARTS = """
    SELECT whole.relname, count(attached.inhrelid)
    FROM pg_index JOIN pg_class AS whole ON whole.oid = indexrelid
    LEFT JOIN pg_inherits AS attached ON attached.inhparent = whole.oid
    WHERE indrelid = 'comparison'::regclass GROUP BY whole.relname ORDER BY whole.relname
"""
# As a worker writes: to one day's partition.
COPY = b"""
    INSERT INTO comparison (day, epoch_id, request_id, session_id, method, revision, received_at, attributes, request,
                            status_code, status_message, response, live_latency, observations, shadow_responses,
                            kept_because)
    SELECT day, epoch_id, request_id, session_id, method, revision, received_at, attributes, request, status_code,
           status_message, response, live_latency, observations, shadow_responses, kept_because FROM comparison
"""
PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'comparison'::regclass"


async def before_the_lists(database_url: str) -> None:
    """As the release before left it, with a comparison in store."""
    async with opened(database_url) as engine:
        epoch = await open_first_epoch(PostgresControl(engine))
        stored = [comparison(epoch, received_at=time.time())]
        await PostgresObservations(engine).commit(flush(epoch, previous=0, offset=1, comparisons=stored))
    with create_engine(driver_url(database_url), poolclass=NullPool).begin() as connection:
        command.downgrade(alembic_config(connection), "0015")


async def before_the_indexes(database_url: str) -> Engine:
    """Migrated, as far as that is one transaction."""
    await before_the_lists(database_url)
    engine = create_engine(driver_url(database_url, limits=False), poolclass=NullPool)
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
    return engine


def whole(database_url: str) -> bool:
    (partitions,) = rows(database_url, PARTITIONS)[0]
    return rows(database_url, INVALID) == [] and {n for _, n in rows(database_url, PARTS)} == {partitions}


async def test_partitions_that_hold_rows_get_their_indexes_once_the_migration_is_made(database_url: str) -> None:
    await before_the_lists(database_url)
    migrate(database_url)
    assert whole(database_url)
    assert len(rows(database_url, PARTS)) == 7, "the primary key, that of epochs, and five of lists"


async def test_who_writes_to_a_partition_goes_on_while_its_index_is_built(database_url: str) -> None:
    engine = await before_the_indexes(database_url)
    with psycopg.connect(database_url) as writer:
        writer.execute(COPY)  # holds on to the partition until it commits
        migrated = threading.Thread(target=partition_indexes.complete, args=(engine,), kwargs={"patience": 60.0})
        migrated.start()
        with psycopg.connect(database_url, autocommit=True) as other:
            building = b"SELECT count(*) FROM pg_stat_progress_create_index"
            deadline = time.monotonic() + 30
            while other.execute(building).fetchone() == (0,):
                assert time.monotonic() < deadline
            other.execute("SET lock_timeout = '5s'")
            other.execute(COPY)
        assert migrated.is_alive(), "it waits for the writer, and nobody waits for it"
    migrated.join(PATIENCE)
    assert whole(database_url)


async def test_what_was_left_half_built_is_built_again(database_url: str) -> None:
    engine = await before_the_indexes(database_url)
    with psycopg.connect(database_url) as writer:
        writer.execute(COPY)
        with pytest.raises(OperationalError) as caught:
            partition_indexes.complete(engine, patience=0.0)
    assert isinstance(caught.value.orig, LockNotAvailable)
    assert rows(database_url, INVALID) != [], "one was begun"
    assert partition_indexes.complete(engine, patience=10.0) > 0
    assert whole(database_url)
    assert partition_indexes.complete(engine, patience=0.0) == 0
