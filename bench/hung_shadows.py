"""What callers notice of shadows that hang, and of a capture log that is away: nothing, but in numbers.

    python bench/hung_shadows.py

Three routers and their workers, alike but for their three shadows: the first's are switched off, the second's answer,
the third's never do. The same requests go to each in turns, one at a time, so that a latency is a latency and not a
queue; the ratio of the distributions is what counts. Then nats-server is killed, and the requests go on: the buffer
must stay at its bound, and what it holds and what it dropped must add up to what was sampled.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine
from stations import SHADOWS, a_request, claim, engines, load, percentile, register, station

from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.core.routing import Claim

ROUNDS = 20
REQUESTS = 250
BOUND = 2_000
OUTAGE_REQUESTS = 5_000
CONCURRENCY = 16
SHARES = (0.5, 0.9, 0.99, 0.999)
NONE, ANSWER, HANG = STAGES = ("no shadows", "shadows answer", "shadows hang")


def main() -> None:
    """Measure and print."""
    with ExitStack() as stack:
        postgres, nats = stack.enter_context(engines())
        asyncio.run(compare(postgres, nats, stack))


async def compare(postgres: EmbeddedPostgres, nats: EmbeddedNats, stack: ExitStack) -> None:
    """Both measurements."""
    live = stack.enter_context(station("version", "base"))
    hung = stack.enter_context(station("hung"))
    routers, databases = {}, {}
    for stage, shadow in zip(STAGES, (live.address, live.address, hung.address), strict=True):
        database_url = databases[stage] = postgres.create_database(stage.replace(" ", "_"))
        await asyncio.to_thread(migrate, database_url)
        addresses = {"base": live.address, **dict.fromkeys(SHADOWS, shadow)}
        shadowing = claim(Claim.OFF if stage == NONE else Claim.SHADOW)
        await register(database_url, addresses, {"base": claim(Claim.LIVE), **dict.fromkeys(SHADOWS, shadowing)})
        environment = {
            "database_url": database_url,
            "nats_url": nats.url,
            "log_name": stage.replace(" ", "-"),
            "buffer_captures": BOUND,
            "report_interval": 0.2,
        }
        routers[stage] = stack.enter_context(station("router", **environment, router_listen="127.0.0.1:0"))
        stack.enter_context(station("worker", **environment))
    requests = [a_request(number) for number in range(REQUESTS)]
    latencies: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for _ in range(ROUNDS):
        for stage in random.sample(STAGES, len(STAGES)):
            latencies[stage] += await load(routers[stage].address, requests, concurrency=1)
    show_latencies(latencies)
    await outage(routers[ANSWER].address, databases[ANSWER], nats)


async def outage(router: str, database_url: str, nats: EmbeddedNats) -> None:
    """Kill the log, and see that the buffer keeps to its bound."""
    engine = open_engine(database_url)
    requests = [a_request(number) for number in range(OUTAGE_REQUESTS)]
    usual = await load(router, requests, concurrency=CONCURRENCY)
    sampled = ROUNDS * REQUESTS + OUTAGE_REQUESTS
    before = await settled(engine, sampled=sampled)
    await asyncio.to_thread(nats.kill)
    latencies = await load(router, requests, concurrency=CONCURRENCY)
    after = await settled(engine, sampled=sampled + OUTAGE_REQUESTS)
    await engine.dispose()
    dropped = after.get("dropped.buffer_full", 0)
    kept = sum(after[where] - before[where] for where in ("buffered", "captured"))
    table = Table(title=f"The log is away: {OUTAGE_REQUESTS} requests, {CONCURRENCY} at once, all sampled")
    for column in ("answered", "buffered", "bound", "dropped", "unaccounted", "p50 ms", "p99 ms", "p99 before"):
        table.add_column(column, justify="right")
    table.add_row(
        *map(str, (len(latencies), after["buffered"], BOUND, dropped, OUTAGE_REQUESTS - kept - dropped)),
        *(f"{percentile(own, share) * 1e3:.1f}" for own, share in ((latencies, 0.5), (latencies, 0.99), (usual, 0.99))),
    )
    Console().print(table)


async def settled(engine: AsyncEngine, *, sampled: int) -> dict[str, int]:
    """The router's counters, once its report covers all that was sampled."""
    async with asyncio.timeout(30):
        while True:
            for status in await PostgresControl(engine).processes():
                counters = dict(status.counters)
                if status.role == "router" and counters.get("sampled") == sampled:
                    return counters
            await asyncio.sleep(0.1)


def show_latencies(latencies: dict[str, list[float]]) -> None:
    """Print both distributions and their ratio."""
    table = Table(title=f"Live latency, ms: {ROUNDS * REQUESTS} requests each, one at a time")
    for column in ("", *(f"p{share * 100:g}" for share in SHARES)):
        table.add_column(column, justify="left" if not column else "right")
    values = {stage: [percentile(own, share) for share in SHARES] for stage, own in latencies.items()}
    for stage, own in values.items():
        table.add_row(stage, *(f"{value * 1e3:.2f}" for value in own))
    for stage in (ANSWER, HANG):
        ratios = (own / none for none, own in zip(values[NONE], values[stage], strict=True))
        table.add_row(f"{stage} / {NONE}", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


if __name__ == "__main__":
    main()
