"""Partition leases in a real PostgreSQL: shared out fairly, and gone with the connection that holds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from multishadow_server.adapters.partition_leases import AdvisoryLeases
from multishadow_server.errors import StoreUnavailable

PARTITIONS = 8


@asynccontextmanager
async def leasing(database_url: str, *, log_name: str = "captures") -> AsyncIterator[AdvisoryLeases]:
    leases = AdvisoryLeases(database_url, log_name=log_name, partitions=PARTITIONS)
    try:
        yield leases
    finally:
        await leases.aclose()


async def rebalanced(*workers: AdvisoryLeases) -> list[frozenset[int]]:
    """Let every worker balance, give back what it is not to work on, and balance again."""
    for worker in workers:
        wanted = await worker.balance()
        for partition in set(range(PARTITIONS)) - wanted:
            await worker.release(partition)
    return [await worker.balance() for worker in workers]


async def test_a_worker_alone_takes_every_partition(database_url: str) -> None:
    async with leasing(database_url) as only:
        assert await only.balance() == frozenset(range(PARTITIONS))


@pytest.mark.parametrize("count", [2, 3, 5, 8, 11])
async def test_workers_share_all_partitions_and_nobody_holds_two_more_than_another(
    database_url: str, count: int
) -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(leasing(database_url)) for _ in range(count)]
        # Everybody joins before anybody can know its share.
        await rebalanced(*workers)
        shares = await rebalanced(*workers)
        assert sorted(partition for share in shares for partition in share) == list(range(PARTITIONS))
        sizes = {len(share) for share in shares}
        assert max(sizes) - min(sizes) <= 1


async def test_a_surplus_partition_stays_taken_until_it_is_released(database_url: str) -> None:
    async with leasing(database_url) as first, leasing(database_url) as second:
        assert len(await first.balance()) == PARTITIONS
        assert await second.balance() == frozenset()
        to_keep = await first.balance()
        assert len(to_keep) == PARTITIONS // 2
        assert await second.balance() == frozenset(), "the first may still be working on them"
        for partition in set(range(PARTITIONS)) - to_keep:
            await first.release(partition)
        assert await second.balance() == frozenset(range(PARTITIONS)) - to_keep


async def test_leases_are_free_at_once_when_their_connection_dies(database_url: str) -> None:
    async with leasing(database_url) as dying, leasing(database_url) as heir:
        await dying.balance()
        await rebalanced(dying, heir)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid = (SELECT min(pid) FROM pg_locks WHERE locktype = "
                "'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
            )
        survivors = [await balanced(worker) for worker in (dying, heir)]
        assert sorted(map(len, survivors)) == [0, PARTITIONS]


async def balanced(worker: AdvisoryLeases) -> frozenset[int]:
    try:
        return await worker.balance()
    except StoreUnavailable:
        return frozenset()


async def test_a_worker_that_lost_its_connection_holds_nothing_and_joins_again(database_url: str) -> None:
    async with leasing(database_url) as leases:
        await leases.balance()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(StoreUnavailable):
            await leases.balance()
        assert await leases.balance() == frozenset(range(PARTITIONS))


async def test_logs_of_different_names_do_not_compete(database_url: str) -> None:
    async with leasing(database_url) as one, leasing(database_url, log_name="other") as other:
        assert len(await one.balance()) == PARTITIONS
        assert len(await other.balance()) == PARTITIONS
