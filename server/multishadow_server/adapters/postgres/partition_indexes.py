"""Indexes of partitioned tables, built on partitions that are written to meanwhile.

PostgreSQL builds no index on all partitions concurrently, and a plain one holds up everybody who writes. So a migration
makes the index on the table alone (`ON ONLY`), which takes no time, and every partition's part is built here, each
concurrently and attached (https://www.postgresql.org/docs/current/ddl-partitioning.html). Whatever ends half-way is
found and built again by the next who comes.
"""

from __future__ import annotations

import time

from psycopg.errors import LockNotAvailable, UndefinedTable
from sqlalchemy import Connection, Engine, RowMapping, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from multishadow_server.adapters.postgres.engine import lacked_a_lock

# "multindx": one process builds at a time.
_LOCK = 0x6D756C74_696E6478
# Sooner than PostgreSQL looks for deadlocks: nobody is ended for one.
_LOCK_TIMEOUT = "500ms"
_PAUSE_SECONDS = 0.2


def complete(engine: Engine, *, patience: float) -> int:
    """Build what partitions lack of their table's indexes; returns how many parts were built. Blocks.

    Args:
        engine: the database, migrated.
        patience: seconds for which a partition that is busy is tried again, and somebody else's building waited for.

    Raises:
        psycopg.errors.LockNotAvailable (wrapped by SQLAlchemy): a table could not be had in all that time.
    """
    until = time.monotonic() + patience
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        if not connection.execute(_LACKING).first():
            return 0
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
        _alone(connection, until)
        try:
            lacking = connection.execute(_LACKING).mappings().all()
            for part in lacking:
                _build(connection, part, until)
            return len(lacking)
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})


def _alone(connection: Connection, until: float) -> None:
    """Take the lock by asking for it again and again.

    Who waits for it within a statement holds a snapshot, and an index that is built concurrently waits for that.
    """
    while not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar_one():
        if time.monotonic() > until:
            raise OperationalError("building indexes", None, LockNotAvailable("somebody else builds them"))
        time.sleep(_PAUSE_SECONDS)


def _build(connection: Connection, part: RowMapping, until: float) -> None:
    index = f"{part['partition']}_{part['index']}"[-63:]
    while True:
        try:
            # One that was begun and never became valid is of no use.
            connection.execute(text(f'DROP INDEX IF EXISTS "{index}"'))
            empty = connection.execute(text(f'SELECT NOT EXISTS (SELECT FROM "{part["partition"]}")')).scalar_one()  # noqa: S608  a partition's name
            # Nobody is held up by an index on nothing, and concurrently it would wait for everybody.
            how = "" if empty else "CONCURRENTLY"
            # That waits for transactions that began before it, and holds up nobody meanwhile.
            wait = _LOCK_TIMEOUT if empty else f"{max(1, round(until - time.monotonic()))}s"
            connection.execute(text(f"SET lock_timeout = '{wait}'"))
            connection.execute(text(f'CREATE INDEX {how} "{index}" ON "{part["partition"]}" {part["columns"]}'))
            connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
            connection.execute(text(f'ALTER INDEX "{part["index"]}" ATTACH PARTITION "{index}"'))
        except ProgrammingError as error:
            # Retention has dropped the partition meanwhile.
            if isinstance(error.orig, UndefinedTable):
                return
            raise
        except OperationalError as error:
            if not lacked_a_lock(error) or time.monotonic() > until:
                raise
            connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
            time.sleep(_PAUSE_SECONDS)
        else:
            return


# Indexes of partitioned tables, and those of their partitions that have no part of it. Definitions begin with
# "CREATE INDEX … ON ONLY … USING", and what follows is the same for every partition.
_LACKING = text(
    """
    SELECT whole.relname AS index, child.relname AS partition,
           substring(pg_get_indexdef(whole.oid) FROM ' (USING .*)$') AS columns
    FROM pg_index
    JOIN pg_class AS whole ON whole.oid = indexrelid AND whole.relkind = 'I'
    JOIN pg_inherits AS partition ON partition.inhparent = indrelid
    JOIN pg_class AS child ON child.oid = partition.inhrelid
    WHERE whole.relnamespace = current_schema()::regnamespace AND NOT EXISTS (
        SELECT
        FROM pg_inherits AS attached JOIN pg_index AS part ON part.indexrelid = attached.inhrelid
        WHERE attached.inhparent = whole.oid AND part.indrelid = child.oid
    )
    ORDER BY child.relname, whole.relname
    """
)
