"""What a router costs per request, against a bare grpc.aio pass-through proxy.

    python bench/router_cpu.py [ROUNDS]

Processor time (user and system) of the proxy's and of the router's own process, over the same requests to the same
live version. The router's includes everything it does: reading flags, captures to a real nats-server, its reports to a
real PostgreSQL. Goal: 1.25 times at 100 %.

Both run with the same setting of gRPC's core (entrypoints/grpc_core.py), but for one proxy that shows what the setting
is worth. The rounds are many, short, and in an order of their own each: whatever else the machine does then meets all
alike, and what counts is each round's ratio. Its median is given with the range that holds it in 19 of 20 cases.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from rich.console import Console
from rich.table import Table
from stations import MODEL, SHADOWS, Station, a_request, claim, engines, load, register, station

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import migrate
from multishadow_server.core.routing import Claim

ROUNDS = 60
REQUESTS = 500
CONCURRENCY = 32
PERCENTS = (0, 25, 100)
BARE = "bare proxy"
UNSET = "bare proxy, gRPC as it comes"


async def measured(target: Station, requests: list[bytes]) -> float:
    """Microseconds of processor time per request."""
    before = target.cpu()
    await load(target.address, requests, concurrency=CONCURRENCY)
    return (target.cpu() - before) / len(requests) * 1e6


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with ExitStack() as stack:
        postgres, nats = stack.enter_context(engines())
        asyncio.run(compare(postgres, nats.url, stack, rounds=rounds))


async def compare(postgres: EmbeddedPostgres, nats_url: str, stack: ExitStack, *, rounds: int) -> None:
    """Proxies and routers in turns, on one live version."""
    live = stack.enter_context(station("version", "base"))
    targets = {
        BARE: stack.enter_context(station("proxy", live.address)),
        UNSET: stack.enter_context(station("proxy", live.address, GRPC_EXPERIMENTS="")),
    }
    for percent in PERCENTS:
        database_url = postgres.create_database(f"shadow_{percent}")
        await asyncio.to_thread(migrate, database_url)
        sampled = claim(Claim.SHADOW, percent) if percent else claim(Claim.OFF)
        await register(
            database_url,
            dict.fromkeys(("base", *SHADOWS), live.address),
            {"base": claim(Claim.LIVE), **dict.fromkeys(SHADOWS, sampled)},
        )
        targets[f"router, {percent} % to {len(SHADOWS)} shadows"] = stack.enter_context(
            station("router", database_url=database_url, nats_url=nats_url, router_listen="127.0.0.1:0",
                    log_name=f"captures-{percent}")
        )  # fmt: skip
    requests = [a_request(number) for number in range(REQUESTS)]
    for target in targets.values():
        await load(target.address, requests, concurrency=CONCURRENCY)
    costs: dict[str, list[float]] = {name: [] for name in targets}
    order = list(targets)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            costs[name].append(await measured(targets[name], requests))
    show(costs, rounds=rounds)


def show(costs: dict[str, list[float]], *, rounds: int) -> None:
    """Print the medians, and the median of each round's ratio to the proxy."""
    table = Table(title=f"{MODEL}: {rounds} rounds of {REQUESTS} requests of 1 KiB, {CONCURRENCY} at once")
    for column in ("", "CPU µs/request", "lowest", "× bare proxy", "95 %"):
        table.add_column(column, justify="left" if not column else "right")
    for name, own in costs.items():
        ratios = [cost / bare for cost, bare in zip(own, costs[BARE], strict=True)]
        low, high = median_interval(ratios)
        table.add_row(
            name, f"{statistics.median(own):.0f}", f"{min(own):.0f}",
            f"{statistics.median(ratios):.2f}", "" if name == BARE else f"{low:.2f}–{high:.2f}",
        )  # fmt: skip
    Console().print(table)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of their median, by the bootstrap."""
    drawn = np.random.default_rng(7).choice(values, (2_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
