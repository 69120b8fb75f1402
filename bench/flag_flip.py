"""From a promotion's commit to the first request that the new version serves, across two router processes.

    python bench/flag_flip.py

Two routers on one PostgreSQL; callers ask each of them every few milliseconds, so that the machine has time left and
the delay is the flip's and not a queue's. A flip is one flag write. The clock starts when
its transaction has committed, and stops, for each router, at the arrival of the first answer by the new revision; the
slower of the two counts. Goal: p99 below 100 ms. No request may fail, and after a router's first new answer no request
that began later may get an old one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table
from stations import MODEL, OPTIONS, PREDICT, a_request, claim, engines, percentile, register, station

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.core.routing import Claim

FLIPS = 200
CALLERS = 2
PAUSE = 0.004


class Watcher:
    """Callers of one router, and when it first answered by a revision."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._first_answer: dict[int, float] = {}
        self._news = asyncio.Condition()
        self.requests = 0
        self.stale = 0

    async def run(self) -> None:
        """Ask and ask."""
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            await asyncio.gather(*(self._ask(channel) for _ in range(CALLERS)))

    async def _ask(self, channel: grpc.aio.Channel) -> None:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)
        while True:
            began_at = time.perf_counter()
            asked = call(a_request(self.requests, size=64), timeout=10.0)
            await asked
            trailing = {str(key): value for key, value in await asked.trailing_metadata() or ()}
            await self._note(int(trailing["x-multishadow-revision"]), began_at)
            await asyncio.sleep(PAUSE)

    async def _note(self, revision: int, began_at: float) -> None:
        self.requests += 1
        newest = max(self._first_answer, default=0)
        if revision < newest and began_at > self._first_answer[newest]:
            self.stale += 1
        if revision not in self._first_answer:
            async with self._news:
                self._first_answer[revision] = time.perf_counter()
                self._news.notify_all()

    async def first_answer(self, revision: int) -> float:
        """When the first answer by this revision arrived."""
        async with self._news:
            await self._news.wait_for(lambda: revision in self._first_answer)
        return self._first_answer[revision]


def main() -> None:
    """Measure and print."""
    with ExitStack() as stack:
        postgres, nats = stack.enter_context(engines())
        asyncio.run(measure(postgres, nats.url, stack))


async def measure(postgres: EmbeddedPostgres, nats_url: str, stack: ExitStack) -> None:
    """Flip to and fro."""
    database_url = postgres.create_database("flips")
    await asyncio.to_thread(migrate, database_url)
    live = stack.enter_context(station("version", "base"))
    await register(
        database_url, dict.fromkeys(("base", "A"), live.address), {"base": claim(Claim.LIVE), "A": claim(Claim.SHADOW)}
    )
    environment = {"database_url": database_url, "nats_url": nats_url, "router_listen": "127.0.0.1:0"}
    watchers = [Watcher(stack.enter_context(station("router", **environment)).address) for _ in range(2)]
    engine = open_engine(database_url)
    delays = []
    async with asyncio.TaskGroup() as tasks:
        calling = [tasks.create_task(watcher.run()) for watcher in watchers]
        for flip in range(FLIPS):
            async with PostgresControl(engine).change("bench") as change:
                wanted = Claim.SHADOW if flip % 2 else Claim.LIVE
                await change.put_flag(f"{MODEL}.A", claim(wanted), reason="flip")
                revision = change.revision
            committed_at = time.perf_counter()
            answers = await asyncio.gather(*(watcher.first_answer(revision) for watcher in watchers))
            delays.append(max(0.0, max(answers) - committed_at))
        for task in calling:
            task.cancel()
    await engine.dispose()
    show(delays, watchers)


def show(delays: list[float], watchers: list[Watcher]) -> None:
    """Print the distribution."""
    table = Table(title=f"{FLIPS} flips, two router processes, {2 * CALLERS} callers")
    for column in ("p50 ms", "p99 ms", "largest ms", "requests", "failed", "stale"):
        table.add_column(column, justify="right")
    table.add_row(
        *(f"{value * 1e3:.1f}" for value in (percentile(delays, 0.5), percentile(delays, 0.99), max(delays))),
        str(sum(watcher.requests for watcher in watchers)),
        "0",  # one that failed would have ended this run
        str(sum(watcher.stale for watcher in watchers)),
    )
    Console().print(table)


if __name__ == "__main__":
    main()
