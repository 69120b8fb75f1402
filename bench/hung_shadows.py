"""What callers notice of shadows that hang, and of a capture log that is away: nothing, but in numbers.

    python bench/hung_shadows.py

Three routers and their workers, alike but for their three shadows: the first's are switched off, the second's answer,
the third's never do. The same requests go to each in turns, at a steady rate that leaves the machine half idle, so that
a latency is a latency and not a queue; the ratio of the distributions is what counts. The range behind a
ratio holds it in 19 of 20 cases. Then nats-server
is killed, and the requests go on: the buffer must stay at its bound, and what it holds and what it dropped must add up
to what was sampled.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from intervals import interval_of, with_interval
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine
from stations import SHADOWS, a_request, claim, engines, load, paced, percentile, register, station

from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.core.routing import Claim

ROUNDS = 12
REQUESTS = 500
RATE = 100.0
# The worker's share of one stage is over before the next stage's begins.
PAUSE = 1.5
BOUND = 2_000
OUTAGE_REQUESTS = 5_000
CONCURRENCY = 16
SHARES = (0.5, 0.9, 0.99, 0.999)
NONE, ANSWER, HANG = STAGES = ("no shadows", "shadows answer", "shadows hang")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What callers notice of shadows that hang, and of a log that is away.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of {REQUESTS} requests for each router ({ROUNDS})")
    run(rounds=parser.parse_args().rounds)


def run(rounds: int = ROUNDS) -> None:
    """Measure and print."""
    with ExitStack() as stack:
        postgres, nats = stack.enter_context(engines())
        asyncio.run(compare(postgres, nats, stack, rounds))


async def compare(postgres: EmbeddedPostgres, nats: EmbeddedNats, stack: ExitStack, rounds: int) -> None:
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
    latencies: dict[str, list[list[float]]] = {stage: [] for stage in STAGES}
    for stage in STAGES:
        await load(routers[stage].address, requests, concurrency=1)
    for _ in range(rounds):
        for stage in random.sample(STAGES, len(STAGES)):
            await asyncio.sleep(PAUSE)
            latencies[stage].append(await paced(routers[stage].address, requests, rate=RATE))
    show_latencies(latencies)
    await outage(routers[ANSWER].address, databases[ANSWER], nats)


async def outage(router: str, database_url: str, nats: EmbeddedNats) -> None:
    """Kill the log, and see that the buffer keeps to its bound."""
    engine = open_engine(database_url)
    requests = [a_request(number) for number in range(OUTAGE_REQUESTS)]
    before = await settled(engine)
    usual = await load(router, requests, concurrency=CONCURRENCY)
    between = await settled(engine, since=before, requests=OUTAGE_REQUESTS)
    await asyncio.to_thread(nats.kill)
    latencies = await load(router, requests, concurrency=CONCURRENCY)
    after = await settled(engine, since=between, requests=OUTAGE_REQUESTS)
    await engine.dispose()
    dropped = after.get("dropped.buffer_full", 0)
    kept = sum(after[where] - between[where] for where in ("buffered", "captured"))
    # A router whose buffer fills lowers its sampling by itself.
    sampled = after["sampled"] - between["sampled"]
    table = Table(title=f"The log is away: {OUTAGE_REQUESTS} requests, {CONCURRENCY} at once")
    for column in (
        "answered",
        "sampled",
        "buffered",
        "bound",
        "dropped",
        "unaccounted",
        "p50 ms",
        "p99 ms",
        "p99 before",
    ):
        table.add_column(column, justify="right")
    table.add_row(
        *map(str, (len(latencies), sampled, after["buffered"], BOUND, dropped, sampled - kept - dropped)),
        *(f"{percentile(own, share) * 1e3:.1f}" for own, share in ((latencies, 0.5), (latencies, 0.99), (usual, 0.99))),
    )
    Console().print(table)


async def settled(engine: AsyncEngine, *, since: dict[str, int] | None = None, requests: int = 0) -> dict[str, int]:
    """The router's counters, once its report covers so many requests more."""
    async with asyncio.timeout(30):
        while True:
            for status in await PostgresControl(engine).processes():
                counters = dict(status.counters)
                if status.role == "router" and (
                    since is None or counters.get("requests", 0) == since["requests"] + requests
                ):
                    return counters
            await asyncio.sleep(0.1)


def show_latencies(latencies: dict[str, list[list[float]]]) -> None:
    """Print the distributions and their ratios."""
    rounds = len(latencies[NONE])
    table = Table(title=f"Live latency, ms: {rounds * REQUESTS} requests each, {RATE:.0f} a second")
    for column in ("", *(f"p{share * 100:g}" for share in SHARES)):
        table.add_column(column, justify="left" if not column else "right")
    for stage, own in latencies.items():
        values = [value for each in own for value in each]
        table.add_row(stage, *(f"{percentile(values, share) * 1e3:.2f}" for share in SHARES))
    for stage in (ANSWER, HANG):
        ratios = (ratio(latencies[stage], latencies[NONE], share) for share in SHARES)
        table.add_row(f"{stage} / {NONE}", *map(with_interval, ratios))
    Console().print(table)


def ratio(own: list[list[float]], other: list[list[float]], share: float) -> tuple[float, float, float]:
    """One quantile of all rounds' latencies over the other's, and its interval."""

    def of(drawn: Sequence[int]) -> float:
        mine, theirs = (np.concatenate([each[i] for i in drawn]) for each in (own, other))
        return float(np.quantile(mine, share) / np.quantile(theirs, share))

    return of(range(len(own))), *interval_of(of, len(own))


if __name__ == "__main__":
    main()
