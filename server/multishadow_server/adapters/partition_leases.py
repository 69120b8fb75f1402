"""Which worker owns which partitions: PostgreSQL's session locks.

A lease is an advisory lock of one dedicated connection, so it ends with that connection: a worker that is killed loses
its partitions at once, and no clock has a say. Workers find each other the same way: each holds one lock *shared*, and
the holders of that lock, ordered by their backends' process ids, divide the partitions among them.

Advisory locks live as long as a session, so the connection must be to PostgreSQL itself or through a pooler in session
mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from multishadow_server.adapters.postgres.engine import cancelled_first, driver_url, open_connection
from multishadow_server.core import sharing
from multishadow_server.errors import StoreUnavailable

ANSWER_SECONDS = 5.0
# A worker whose machine vanished without a word is noticed by the server after about ten seconds.
NOTICE_SILENCE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"

CENSUS = """
SELECT classid::bigint, objid::bigint, pid, pid = pg_backend_pid()
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::bigint = ANY(%s)
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Census:
    """How many workers there are, this one's place among them (from 0), and the partitions that somebody holds."""

    workers: int
    rank: int
    taken: frozenset[int]


class AdvisoryLeases:
    """Leases of the partitions of one capture log.

    Args:
        database_url: `postgresql://...`.
        log_name: the log's name; logs of other names in the same database have leases of their own.
        partitions: how many the log has.
    """

    def __init__(self, database_url: str, *, log_name: str, partitions: int) -> None:
        self._url = driver_url(database_url, limits=False)
        self._partitions = partitions
        self._partition_class = _lock_class(f"{log_name}/partition")
        self._member_class = _lock_class(f"{log_name}/worker")
        self._connection: psycopg.AsyncConnection | None = None
        self._held: set[int] = set()

    async def balance(self) -> frozenset[int]:
        """Take free partitions up to a fair share, and return those to work on.

        What is held beyond the share stays held and is not returned: stop working on it, then `release` it.

        Raises:
            StoreUnavailable: PostgreSQL does not answer; no lease is held any more.
        """
        async with self._session() as connection:
            census = await self._take_census(connection)
            share = sharing.fair_share(self._partitions, place=census.rank, places=census.workers)
            await self._take_free(connection, census, share)
        return frozenset(sorted(self._held)[:share])

    async def leave(self) -> None:
        """Count as a worker no longer, so that the others' shares grow; what is held stays held until it is released.

        Raises:
            StoreUnavailable: PostgreSQL does not answer; no lease is held any more.
        """
        if self._connection is None:
            return
        async with self._session() as connection:
            await connection.execute("SELECT pg_advisory_unlock_shared(%s, 0)", (self._member_class,))

    async def release(self, partition: int) -> None:
        """Give one back; the caller has stopped working on it. Not held: nothing happens. Raises StoreUnavailable."""
        if partition not in self._held:
            return
        async with self._session() as connection:
            # The session may have been lost, and with it the lease, since.
            if partition in self._held:
                await connection.execute("SELECT pg_advisory_unlock(%s, %s)", (self._partition_class, partition))
                self._held.discard(partition)

    async def aclose(self) -> None:
        """Give all back."""
        self._held.clear()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """The connection whose life is the leases' life. Any trouble ends both, so that nothing is held in doubt."""
        try:
            with cancelled_first():
                async with asyncio.timeout(ANSWER_SECONDS):
                    yield await self._connected()
        except (psycopg.Error, OSError, TimeoutError) as error:
            await self.aclose()
            raise StoreUnavailable(f"PostgreSQL does not answer for partition leases: {error!r}") from error
        except BaseException:
            await self.aclose()
            raise

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None or self._connection.closed:
            self._held.clear()
            self._connection = await open_connection(self._url)
            await self._connection.execute(NOTICE_SILENCE)
            await self._connection.execute("SELECT pg_advisory_lock_shared(%s, 0)", (self._member_class,))
        return self._connection

    async def _take_census(self, connection: psycopg.AsyncConnection) -> Census:
        cursor = await connection.execute(CENSUS, ([self._member_class, self._partition_class],))
        locks = await cursor.fetchall()
        workers = sorted((pid, own) for class_id, _, pid, own in locks if class_id == self._member_class)
        return Census(
            workers=len(workers),
            rank=next(rank for rank, (_, own) in enumerate(workers) if own),
            taken=frozenset(partition for class_id, partition, _, _ in locks if class_id == self._partition_class),
        )

    async def _take_free(self, connection: psycopg.AsyncConnection, census: Census, share: int) -> None:
        for partition in range(self._partitions):
            if len(self._held) >= share:
                return
            if partition not in census.taken:
                cursor = await connection.execute(
                    "SELECT pg_try_advisory_lock(%s, %s)", (self._partition_class, partition)
                )
                if await cursor.fetchone() == (True,):
                    self._held.add(partition)


def _lock_class(name: str) -> int:
    """31 bits, because pg_locks shows the signed argument as an unsigned number."""
    return zlib.crc32(f"multishadow/{name}".encode()) & 0x7FFFFFFF
