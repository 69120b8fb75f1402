"""What a router costs per request, against a bare grpc.aio pass-through proxy.

    python bench/router_cpu.py

Processor time (user and system) of the proxy's and of the router's own process, over the same requests to the same
live version, in turns. The router's includes everything it does: reading flags, captures to a real nats-server, its
reports to a real PostgreSQL. Goal: 1.3 times at 100 %.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table
from stations import MODEL, SHADOWS, Station, a_request, claim, engines, load, register, station

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import migrate
from multishadow_server.core.routing import Claim

ROUNDS = 7
REQUESTS = 3_000
CONCURRENCY = 32
PERCENTS = (0, 25, 100)


async def measured(target: Station, requests: list[bytes]) -> float:
    """Microseconds of processor time per request."""
    before = target.cpu()
    await load(target.address, requests, concurrency=CONCURRENCY)
    return (target.cpu() - before) / len(requests) * 1e6


def main() -> None:
    """Measure and print."""
    with ExitStack() as stack:
        postgres, nats = stack.enter_context(engines())
        asyncio.run(compare(postgres, nats.url, stack))


async def compare(postgres: EmbeddedPostgres, nats_url: str, stack: ExitStack) -> None:
    """Proxy and routers in turns, on one live version."""
    live = stack.enter_context(station("version", "base"))
    targets = {"bare proxy": stack.enter_context(station("proxy", live.address))}
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
        await load(target.address, requests[:500], concurrency=CONCURRENCY)
    costs: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, target in targets.items():
            costs[name].append(await measured(target, requests))
    show(costs)


def show(costs: dict[str, list[float]]) -> None:
    """Print the medians, and the median of each round's ratio to the proxy."""
    table = Table(title=f"{MODEL}: {ROUNDS} rounds of {REQUESTS} requests of 1 KiB, {CONCURRENCY} at once")
    for column in ("", "CPU µs/request", "spread", "× bare proxy"):
        table.add_column(column, justify="left" if not column else "right")
    bare = costs["bare proxy"]
    for name, own in costs.items():
        ratio = statistics.median(cost / base for cost, base in zip(own, bare, strict=True))
        table.add_row(name, f"{statistics.median(own):.0f}", f"{min(own):.0f}–{max(own):.0f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
