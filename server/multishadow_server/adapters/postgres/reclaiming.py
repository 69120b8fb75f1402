"""Deleting rows of stored traffic so that the disk has the space again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import psycopg
from psycopg import sql
from sqlalchemy import URL

from multishadow_server.adapters.postgres.engine import open_connection, translated

logger = logging.getLogger(__name__)

# Rewriting a table locks it. Who writes to it goes first; the space is reclaimed the next time.
LOCK_PATIENCE = "5s"


async def reclaim(url: URL, tables: Collection[str]) -> int:
    """Rewrite tables without what was deleted from them; returns by how many bytes they shrank.

    `DELETE` alone leaves the rows' bytes in the files, for later rows to use. `VACUUM FULL` writes the table anew and
    deletes the former file. Meanwhile workers' commits to these tables wait; a partition holds one day.

    Raises:
        StoreUnavailable: PostgreSQL is away. What was deleted is deleted all the same.
    """
    if not tables:
        return 0
    connection = await open_connection(url)
    try:
        with translated(url, "reclaiming space"):
            await connection.execute("SELECT set_config('statement_timeout', '0', false)")
            await connection.execute("SELECT set_config('lock_timeout', %s, false)", (LOCK_PATIENCE,))
            before = await _size(connection, tables)
            for table in sorted(tables):
                await _rewrite(connection, table)
            return max(0, before - await _size(connection, tables))
    finally:
        await connection.close()


async def _rewrite(connection: psycopg.AsyncConnection, table: str) -> None:
    name = sql.Identifier(table)
    try:
        await connection.execute(sql.SQL("VACUUM (FULL) {}").format(name))
    except psycopg.errors.LockNotAvailable:
        logger.warning("%s is busy: its space is used again, and given back to the disk the next time", table)
        await connection.execute(sql.SQL("VACUUM {}").format(name))
    except psycopg.errors.UndefinedTable:
        # Dropped meanwhile, with all its bytes.
        return


async def _size(connection: psycopg.AsyncConnection, tables: Collection[str]) -> int:
    names: Sequence[str] = list(tables)
    found = await connection.execute(
        "SELECT COALESCE(SUM(pg_total_relation_size(to_regclass(name))), 0) FROM unnest(%s::text[]) AS name", (names,)
    )
    row = await found.fetchone()
    return int(row[0]) if row else 0
