"""From a promotion's commit to the routers: acknowledged by all, and answered by the new version.

    python bench/flag_flip.py

Two routers on one PostgreSQL; callers ask each of them every few milliseconds, so that the machine has time left and
the delay is the flip's and not a queue's. A flip is a promotion or a rollback, as control makes them: one flag write.

*Paced*: each flip is waited for. The clock starts when its transaction has committed. `acknowledged` stops when the
registry of processes shows that both routers act on the revision, which is what `shadowctl promote` waits for;
`answered` at the arrival of the first answer by it, of the slower router. Goal: p99 of both below 100 ms.

*Back to back*: 500 flips, none of which waits for anything. No request may fail in either; after a router's first new
answer no request that began later may get an older one; and every answer must come from the version that the revision,
which it names, made live.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table
from stations import MODEL, OPTIONS, PREDICT, a_request, claim, engines, percentile, register, station

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.core.routing import Claim
from multishadow_server.service import promotion

PACED = 200
BACK_TO_BACK = 500
CALLERS = 2
PAUSE = 0.004
LOOK = 0.002


class Watcher:
    """Callers of one router, and when it first answered by a revision."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._first_answer: dict[int, float] = {}
        self._news = asyncio.Condition()
        self.requests = 0
        self.stale = 0
        self.served: set[tuple[int, str]] = set()

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
            trailing = {str(key): str(value) for key, value in await asked.trailing_metadata() or ()}
            revision = int(trailing["x-multishadow-revision"])
            self.served.add((revision, trailing["x-multishadow-version"]))
            await self._note(revision, began_at)
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
        """When the first answer by this revision, or a later one, arrived."""

        def newer() -> list[float]:
            return [at for known, at in self._first_answer.items() if known >= revision]

        async with self._news:
            await self._news.wait_for(newer)
        return min(newer())


class Flips:
    """Promotions and rollbacks, taking turns; `live` is whom each revision made live."""

    def __init__(self, store: PostgresControl) -> None:
        self._store = store
        self.live: dict[int, str] = {}

    async def flip(self) -> int:
        """Make one; return its revision."""
        if len(self.live) % 2:
            undone = await promotion.rollback(self._store, model=MODEL, actor="bench")
            self.live[undone.revision] = undone.version
            return undone.revision
        promoted = await promotion.promote(
            self._store,
            GrpcVersionProbe(),
            model=MODEL,
            version="A",
            actor="bench",
            reason="bench",
            force=True,
            clock=time.time,
        )
        self.live[promoted.revision] = promoted.version
        return promoted.revision


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
    store = PostgresControl(engine)
    flips = Flips(store)
    async with asyncio.TaskGroup() as tasks:
        calling = [tasks.create_task(watcher.run()) for watcher in watchers]
        await acknowledged(store, 1)
        paced = [await timed(store, flips, watchers) for _ in range(PACED)]
        began_at = time.perf_counter()
        for _ in range(BACK_TO_BACK):
            last = await flips.flip()
        took = time.perf_counter() - began_at
        await asyncio.gather(*(watcher.first_answer(last) for watcher in watchers))
        for task in calling:
            task.cancel()
    await engine.dispose()
    show(paced, watchers, flips, took)


async def timed(store: PostgresControl, flips: Flips, watchers: Sequence[Watcher]) -> tuple[float, float]:
    """One flip: seconds until both routers acknowledged it, and until both answered by it."""
    revision = await flips.flip()
    committed_at = time.perf_counter()

    async def since(happening: Callable[[], Awaitable[object]]) -> float:
        await happening()
        return time.perf_counter() - committed_at

    seen = asyncio.create_task(since(lambda: acknowledged(store, revision)))
    answers = await asyncio.gather(*(watcher.first_answer(revision) for watcher in watchers))
    return await seen, max(0.0, max(answers) - committed_at)


async def acknowledged(store: PostgresControl, revision: int) -> None:
    """Wait until the registry shows that both routers act on the revision."""
    while True:
        processes = await store.processes()
        if sum(process.role == "router" and process.revision >= revision for process in processes) == 2:
            return
        await asyncio.sleep(LOOK)


def show(paced: Sequence[tuple[float, float]], watchers: Sequence[Watcher], flips: Flips, took: float) -> None:
    """Print the distributions, and what may not happen."""
    table = Table(title=f"{PACED} flips, each waited for; two router processes, {2 * CALLERS} callers")
    for column in ("commit →", "p50 ms", "p90 ms", "p99 ms", "largest ms"):
        table.add_column(column, justify="right")
    for what, delays in (
        ("last router acknowledged", [acknowledged for acknowledged, _ in paced]),
        ("last router answered", [answered for _, answered in paced]),
    ):
        figures = (percentile(delays, 0.5), percentile(delays, 0.9), percentile(delays, 0.99), max(delays))
        table.add_row(what, *(f"{1e3 * figure:.1f}" for figure in figures))
    console = Console()
    console.print(table)
    served = {pair for watcher in watchers for pair in watcher.served if pair[0] >= min(flips.live)}
    wrong = served - set(flips.live.items())
    console.print(
        f"then {BACK_TO_BACK} flips back to back in {took:.1f} s, of which {len(served)} revisions were seen by "
        f"callers.\nrequests {sum(watcher.requests for watcher in watchers):,}, failed 0, "
        f"stale {sum(watcher.stale for watcher in watchers)}, by a version that was not live {len(wrong)}"
    )


if __name__ == "__main__":
    main()
