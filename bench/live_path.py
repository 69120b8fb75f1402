"""What the live path costs and adds: the router, a bare proxy and Envoy in front of the same version.

    python bench/live_path.py [--quick] [--rounds N] [--without-envoy]
    python bench/live_path.py --goal
    python bench/live_path.py --hung

Processor time (user and system) of what stands between the callers and the live version, per request, and the latency
that it adds to calling the version directly, at 0, 25 and 100 % sampling to 1, 3 and 8 shadows. The router's figure
holds everything that its process does: reading flags, captures to a real nats-server, reports to a real PostgreSQL.
What the worker, the log and the database spend on the same requests stands beside it; no caller waits for that.

The callers and the versions are compiled (wire.c), so that they are not the bottleneck, and no two requests ask the
same: a worker would not send such to a shadow. Everything runs in turns, in short rounds with an order of their own
each, so that whatever else the machine does meets all alike. What counts are ratios and differences within a round:
their medians, with the range that holds it in 19 of 20 cases. --hung compares latencies while shadows hang
(hung_shadows.py).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hung_shadows
import nats
import numpy as np
import psutil
from envoy_mirror import Case, mirror
from intervals import interval_of, with_interval
from nats.js import JetStreamContext
from rich.console import Console
from rich.table import Table
from stations import Station, claim, engines, percentile, station
from wire import Callers, Wire

from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.routing import Claim

CASES: tuple[Case, ...] = tuple((percent, shadows) for percent in (0, 25, 100) for shadows in (1, 3, 8))
QUICK_CASES: tuple[Case, ...] = ((0, 3), (25, 3), (100, 1), (100, 3), (100, 8))
GOAL_CASE, GOAL = (100, 3), 1.25
RATE = 300.0
LOG = "captures"
# A router holds a capture for a quarter of a second at most; then what it spends on it is spent.
SETTLING_SECONDS = 0.35
DRAIN_SECONDS = 60.0
DIRECT = "the version itself"
BARE = "bare grpc.aio proxy"
UNSET = "bare proxy, gRPC as it comes"
TUNED = "bare proxy, set as a router"
BESIDE = ("worker", "log", "database")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is measured: rounds, and requests of a turn that count for processor time, and for latency."""

    rounds: int
    requests: int
    timed: int
    cases: Sequence[Case]


FULL = Effort(rounds=20, requests=1_000, timed=600, cases=CASES)
QUICK = Effort(rounds=4, requests=500, timed=300, cases=QUICK_CASES)
# What the goal says nothing about takes no time: so many more rounds tell a few percent from the machine's noise.
GOAL_ONLY = Effort(rounds=100, requests=1_000, timed=0, cases=(GOAL_CASE,))


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Something that callers can call.

    Args:
        name: what it is called in the table.
        address: where.
        callers: who call it.
        station: whose processor time counts; None for the version itself.
        sampled: whether there are captures, and so work for the worker.
    """

    name: str
    address: str
    callers: Callers
    station: Station | None
    sampled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What one target's turns showed, an entry per round: µs per request, and latencies in seconds."""

    cpu: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in BESIDE})
    latencies: list[Sequence[float]] = field(default_factory=list)


class Apparatus:
    """What stands beside the live path: the worker, the log, the database.

    Args:
        worker: its process.
        engines: process ids of PostgreSQL and nats-server.
        stream: the log's.
    """

    def __init__(self, worker: Station, *, postgres: int, nats_server: int, stream: JetStreamContext) -> None:
        self._worker = worker
        self._postgres, self._nats = psutil.Process(postgres), psutil.Process(nats_server)
        self._stream = stream

    def cpu(self) -> Mapping[str, float]:
        """Seconds of processor time that each has used so far."""
        database = sum(self._postgres.cpu_times()[:4])
        database += sum(sum(child.cpu_times()[:2]) for child in self._postgres.children(recursive=True))
        return {"worker": self._worker.cpu(), "log": sum(self._nats.cpu_times()[:2]), "database": database}

    @contextmanager
    def worker_frozen(self) -> Iterator[None]:
        """The worker waits: on a machine of few cores it would push whoever is measured out of the caches."""
        self._worker.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._worker.process.send_signal(signal.SIGCONT)

    async def drained(self) -> None:
        """Return when the worker has finished with all that is in the log."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (await self._stream.stream_info(LOG)).state.messages:
            if time.monotonic() > deadline:
                raise RuntimeError("the worker did not finish")
            await asyncio.sleep(0.05)


# --- measuring ----------------------------------------------------------------------------------------------------


async def take_turn(target: Target, apparatus: Apparatus, effort: Effort, seen: Seen) -> None:
    """One target's part of a round: many calls at once for the processor time, then a steady rate for the latency."""
    beside = apparatus.cpu()
    before = target.station.cpu() if target.station else 0.0
    with apparatus.worker_frozen():
        await asyncio.to_thread(target.callers.at_once, target.address, effort.requests)
        await asyncio.sleep(SETTLING_SECONDS)
    spent = target.station.cpu() - before if target.station else 0.0
    seen.cpu.append(spent / effort.requests * 1e6)
    if target.sampled:
        await apparatus.drained()
    if not effort.timed:
        return
    seen.latencies.append(await asyncio.to_thread(target.callers.at_rate, target.address, effort.timed, rate=RATE))
    if target.sampled:
        await asyncio.sleep(SETTLING_SECONDS)
        await apparatus.drained()
        for name, now in apparatus.cpu().items():
            seen.beside[name].append((now - beside[name]) / (effort.requests + effort.timed) * 1e6)


async def register(database_url: str, case: Case, *, live: str, shadow: str, odd: str = "") -> str:
    """A model for this case with its versions, their flags, and an experiment on its shadows; its name.

    `odd` is the address of the first shadow where it is not that of all.
    """
    percent, shadows = case
    model = f"to-{shadows}-at-{percent}"
    names = tuple(f"shadow-{number}" for number in range(shadows))
    addresses = {"base": live, **dict.fromkeys(names, shadow)}
    if odd:
        addresses[names[0]] = odd
    versions = tuple(
        Version(model=model, name=name, address=address, timeout=30.0) for name, address in addresses.items()
    )
    engine = open_engine(database_url)
    async with PostgresControl(engine).change("bench") as change:
        await change.put_model(Model(name=model, versions=versions))
        await change.put_versions(Model(name=model, versions=versions))
        for version in versions:
            definition = claim(Claim.LIVE, model=model)
            if version.name != "base":
                definition = claim(Claim.SHADOW, percent, model=model) if percent else claim(Claim.OFF, model=model)
            await change.put_flag(version.flag_key, definition, reason="bench")
        experiment = await change.start_experiment(
            model=model, candidates=names, percent=percent or 100, bucket_seconds=3600, duration=86_400
        )
        await change.open_epoch(experiment, live="base", candidates=names, comparator=Comparator(), reason="bench")
    await engine.dispose()
    return model


async def measure(effort: Effort, stack: ExitStack, *, envoy: bool) -> Mapping[str, Seen]:
    """Start everything, and take turns."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    wire = Wire.compiled(folder)
    live = stack.enter_context(wire.version("live")).address
    shadow = stack.enter_context(wire.version("shadow")).address
    postgres, log = stack.enter_context(engines())
    database_url = postgres.create_database("live_path")
    await asyncio.to_thread(migrate, database_url)
    models = {case: await register(database_url, case, live=live, shadow=shadow) for case in effort.cases}
    environment = {"database_url": database_url, "nats_url": log.url, "log_name": LOG}
    router = stack.enter_context(station("router", **environment, router_listen="127.0.0.1:0"))
    worker = stack.enter_context(station("worker", **environment))
    client = await nats.connect(log.url)
    try:
        apparatus = Apparatus(worker, postgres=postgres.pid, nats_server=log.pid, stream=client.jetstream())
        references = _references(live, wire, stack) if effort.timed else ()
        targets = [*references, _bare(live, wire, stack), *_routers(router, models, wire)]
        if envoy:
            process, addresses = stack.enter_context(mirror(folder, live, shadow, effort.cases))
            targets += _envoys(process, addresses, wire)
        return await _rounds(targets, apparatus, effort)
    finally:
        await client.close()


def _bare(live: str, wire: Wire, stack: ExitStack) -> Target:
    bare = stack.enter_context(station("proxy", live))
    return Target(name=BARE, address=bare.address, callers=Callers(wire), station=bare)


def _references(live: str, wire: Wire, stack: ExitStack) -> Sequence[Target]:
    callers = Callers(wire)
    unset = stack.enter_context(station("proxy", live, GRPC_EXPERIMENTS=""))
    tuned = stack.enter_context(station("tuned_proxy", live))
    return [
        Target(name=DIRECT, address=live, callers=callers, station=None),
        Target(name=UNSET, address=unset.address, callers=callers, station=unset),
        Target(name=TUNED, address=tuned.address, callers=callers, station=tuned),
    ]


def _routers(router: Station, models: Mapping[Case, str], wire: Wire) -> Sequence[Target]:
    return [
        Target(
            name=_router_name(case),
            address=router.address,
            callers=Callers(wire, model),
            station=router,
            sampled=case[0] > 0,
        )
        for case, model in models.items()
    ]


def _envoys(process: Station, addresses: Mapping[Case, str], wire: Wire) -> Sequence[Target]:
    callers = Callers(wire)
    return [
        Target(name=_envoy_name(case), address=address, callers=callers, station=process)
        for case, address in addresses.items()
    ]


async def _rounds(targets: Sequence[Target], apparatus: Apparatus, effort: Effort) -> Mapping[str, Seen]:
    seen = {target.name: Seen() for target in targets}
    # The first round warms everything up: connections, caches, the database's plans.
    for number in range(effort.rounds + 1):
        for target in random.sample(targets, len(targets)):
            await take_turn(target, apparatus, effort, seen[target.name] if number else Seen())
    return seen


def _router_name(case: Case) -> str:
    return f"router, {case[0]} % to {case[1]}"


def _envoy_name(case: Case) -> str:
    return f"Envoy, {case[0]} % to {case[1]}"


# --- what it comes to ---------------------------------------------------------------------------------------------


def median_ratio(own: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and its interval."""
    ratios = [mine / theirs for mine, theirs in zip(own, other, strict=True)]
    return statistics.median(ratios), *interval_of(
        lambda drawn: statistics.median(ratios[i] for i in drawn), len(ratios)
    )


def added(own: Seen, other: Seen, share: float) -> tuple[float, float, float]:
    """Milliseconds by which this quantile of all rounds' latencies lies above the other's, and its interval."""

    def difference(drawn: Sequence[int]) -> float:
        mine, theirs = (np.concatenate([each.latencies[i] for i in drawn]) for each in (own, other))
        return float(np.quantile(mine, share) - np.quantile(theirs, share)) * 1e3

    return difference(range(len(own.latencies))), *interval_of(difference, len(own.latencies))


def show(seen: Mapping[str, Seen], effort: Effort) -> None:
    """Print the one table, and what it means for the goal."""
    table = Table(
        title=f"{effort.rounds} rounds: {effort.requests} requests of 1 KiB, 32 at once, for processor time"
        + (f"; {effort.timed} at {RATE:.0f}/s for latency" if effort.timed else "")
    )
    columns = ["", "CPU µs/req", "× bare (95 %)"]
    if effort.timed:
        columns += ["added p50 ms (95 %)", "added p99 ms (95 %)", *(f"{name} µs" for name in BESIDE)]
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    for name, own in seen.items():
        table.add_row(name, *_figures(name, own, seen))
    console = Console(width=160)
    console.print(table)
    if effort.timed:
        direct = [latency for turn in seen[DIRECT].latencies for latency in turn]
        console.print(
            f"Called directly, the version answers in p50 {percentile(direct, 0.5) * 1e3:.2f} ms, "
            f"p99 {percentile(direct, 0.99) * 1e3:.2f} ms."
        )
    for line in conclusions(seen):
        console.print(line)


def _figures(name: str, own: Seen, seen: Mapping[str, Seen]) -> Sequence[str]:
    if name == DIRECT:
        return ["", "", "", "", "", "", ""]
    cpu = f"{statistics.median(own.cpu):.0f}"
    ratio = "1" if name == BARE else with_interval(median_ratio(own.cpu, seen[BARE].cpu))
    if not own.latencies:
        return [cpu, ratio]
    latencies = [with_interval(added(own, seen[DIRECT], share)) for share in (0.5, 0.99)]
    return [cpu, ratio, *latencies, *(f"{statistics.median(each):.0f}" if each else "" for each in own.beside.values())]


def conclusions(seen: Mapping[str, Seen]) -> Sequence[str]:
    """Whether the goal is met, and how far it is to Envoy."""
    own = seen[_router_name(GOAL_CASE)]
    value, low, high = median_ratio(own.cpu, seen[BARE].cpu)
    verdict = "met" if high <= GOAL else "missed" if low > GOAL else "not decided by this run"
    lines = [
        f"Goal: at most {GOAL} × the bare proxy at 100 % to three. Seen: {value:.2f} ({low:.2f}–{high:.2f}): {verdict}."
    ]
    envoy = seen.get(_envoy_name(GOAL_CASE))
    if envoy:
        whole = [cpu + sum(more) for cpu, *more in zip(own.cpu, *own.beside.values(), strict=True)]
        live, all_of_it = (with_interval(median_ratio(each, envoy.cpu)) for each in (own.cpu, whole))
        lines.append(
            f"Envoy at 100 % to three: the router takes {live} × its processor time; with worker, log and database, "
            f"which compare and count what Envoy throws away, {all_of_it} ×."
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and cases: about two minutes")
    parser.add_argument(
        "--goal",
        action="store_true",
        help="many rounds of the case that the goal is about against the bare proxy, and nothing else: five minutes",
    )
    parser.add_argument("--rounds", type=int, help="how many, instead")
    parser.add_argument("--without-envoy", action="store_true", help="where its wheel is not installed")
    parser.add_argument("--hung", action="store_true", help="the latency while shadows hang, and nothing else")
    options = parser.parse_args()
    if options.hung:
        hung_shadows.run()
        return
    chosen = GOAL_ONLY if options.goal else QUICK if options.quick else FULL
    rounds = chosen.rounds if options.rounds is None else options.rounds
    effort = Effort(rounds=rounds, requests=chosen.requests, timed=chosen.timed, cases=chosen.cases)
    with ExitStack() as stack:
        seen = asyncio.run(measure(effort, stack, envoy=not (options.without_envoy or options.goal)))
        show(seen, effort)


if __name__ == "__main__":
    main()
