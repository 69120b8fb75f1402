"""What a worker costs per observation, and how much of that are the gRPC calls themselves.

    python bench/worker_cpu.py

Processor time (user and system) of a worker's own process over captures that are logged to a real nats-server, sent to
three version servers in processes of their own, compared, and committed to a real PostgreSQL. Beside it, in the same
run: a process that does nothing but the same calls to the same servers with the worker's own gateway and its setting of
gRPC's core; and the worker's other parts, one by one, over the same captures.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
import psutil
from nats.aio.client import Client
from rich.console import Console
from rich.table import Table
from stations import MODEL, PREDICT, SHADOWS, a_request, station

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters import capture_codec
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.app import worker as worker_role
from multishadow_server.core.capture import Capture, CaptureBatch, partition_of
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.tally import Tally
from multishadow_server.entrypoints import grpc_core
from multishadow_server.settings import Settings

ROUNDS = 5
CAPTURES = 4_000
PER_MESSAGE = 50
CALLS_AT_ONCE = 64 * len(SHADOWS)
METADATA = (("x-shadow-deployment", "true"), ("x-multishadow-request-id", "request-1"))


# --- in a process of its own --------------------------------------------------------------------------------------


async def work() -> None:
    """A worker, with settings from the environment, until its input ends."""
    stop = asyncio.Event()
    role = asyncio.create_task(worker_role.run(Settings(), stop, ready=_say))
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await role


async def call(*addresses: str) -> None:
    """For each line of input: the calls of one round and nothing else, then the seconds of processor time."""
    gateway = GrpcModelGateway(max_message_bytes=16 << 20)
    _say("ready")
    while await asyncio.to_thread(sys.stdin.readline):
        before = time.process_time()
        waiting = iter([(address, a_request(number)) for number in range(CAPTURES) for address in addresses])
        await asyncio.gather(*(_call_one_by_one(gateway, waiting) for _ in range(CALLS_AT_ONCE)))
        _say(str(time.process_time() - before))
    await gateway.aclose()


async def _call_one_by_one(gateway: GrpcModelGateway, waiting: Iterator[tuple[str, bytes]]) -> None:
    for address, body in waiting:
        answer = await gateway.call(address, PREDICT, body, metadata=METADATA, deadline=time.monotonic() + 30)
        assert answer.status_code == 0, answer.status_message


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def process(role: str, *arguments: str, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """One of the above, ready, until the block ends."""
    environment = {f"MULTISHADOW_{name.upper()}": str(value) for name, value in settings.items()}
    started = subprocess.Popen(
        [sys.executable, __file__, role, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"GRPC_EXPERIMENTS": grpc_core.POLLED_SOCKETS, **os.environ, **environment},
    )
    assert started.stdin is not None
    assert started.stdout is not None
    try:
        if not started.stdout.readline():
            raise RuntimeError(f"the {role} did not start")
        yield started
    finally:
        started.stdin.close()
        started.wait(30)


# --- the captures -------------------------------------------------------------------------------------------------


def captures(count: int, *, epoch: Epoch, prefix: str) -> list[Capture]:
    """Captures of requests of 1 KiB, sampled to every shadow, on which all agree."""
    response = prediction_pb2.PredictResponse(
        classification=prediction_pb2.Classification(label="A", confidence=0.9)
    ).SerializeToString()
    return [
        Capture(
            request_id=f"{prefix}-{number}",
            session_id=f"session-{number % 5_000}",
            model=MODEL,
            method=PREDICT,
            attributes={"country": "nl", "plan": "pro"},
            request=a_request(number),
            metadata=(),
            live="base",
            shadows=SHADOWS,
            revision=epoch.from_revision,
            response=response,
            status_code=0,
            status_message="",
            live_latency=0.01,
            received_at=time.time(),
        )
        for number in range(count)
    ]


def messages(made: Sequence[Capture], partitions: int) -> list[tuple[int, CaptureBatch]]:
    """Grouped as a router would."""
    by_partition: dict[int, list[Capture]] = {}
    for capture in made:
        by_partition.setdefault(partition_of(capture.partition_key, partitions), []).append(capture)
    return [
        (partition, CaptureBatch(router="bench", captures=own[start : start + PER_MESSAGE]))
        for partition, own in by_partition.items()
        for start in range(0, len(own), PER_MESSAGE)
    ]


async def begin(database_url: str, addresses: Mapping[str, str]) -> Epoch:
    """Register the versions and begin an experiment on the shadows."""
    engine = open_engine(database_url)
    versions = tuple(
        Version(model=MODEL, name=name, address=address, timeout=30.0) for name, address in addresses.items()
    )
    async with PostgresControl(engine).change("bench") as change:
        await change.put_model(Model(name=MODEL, versions=versions))
        await change.put_versions(Model(name=MODEL, versions=versions))
        experiment = await change.start_experiment(
            model=MODEL, candidates=SHADOWS, percent=100, bucket_seconds=3600, duration=86_400
        )
        epoch = await change.open_epoch(
            experiment, live="base", candidates=SHADOWS, comparator=Comparator(), reason="bench"
        )
    await engine.dispose()
    return epoch


async def counted(database_url: str, epoch: Epoch) -> int:
    """Observations in the store."""
    engine = open_engine(database_url)
    rollup = await PostgresControl(engine).rollup(epoch.id)
    await engine.dispose()
    return sum(count for cell, count in rollup.cells.items() if cell.family == "outcome")


# --- measuring ----------------------------------------------------------------------------------------------------


class Log:
    """The writing end, and how much of it is left to do."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._stream = client.jetstream()
        self._name = settings.log_name
        self.writer = JetStreamLog(client, settings)

    async def append(self, made: Sequence[Capture], *, prefix: str) -> None:
        """Log them all."""
        for number, (partition, batch) in enumerate(messages(made, self.writer.partitions)):
            await self.writer.append(partition, batch, message_id=f"{prefix}-{number}")

    async def drained(self, *, within: float = 120.0) -> None:
        """Return when nothing is left."""
        deadline = time.monotonic() + within
        while (await self._stream.stream_info(self._name)).state.messages:
            if time.monotonic() > deadline:
                raise RuntimeError("the worker did not finish")
            await asyncio.sleep(0.02)


def parts(made: Sequence[Capture], epoch: Epoch) -> dict[str, float]:
    """Microseconds per observation of what a worker does beside calling and committing."""
    payload = [capture_codec.encode(batch) for _, batch in messages(made, 8)]
    pool, comparator = ComparisonPool(), Comparator()

    async def compare() -> None:
        for capture in made:
            for _ in SHADOWS:
                await pool.compare(comparator, capture.response, capture.response)

    def tally() -> None:
        observations = [
            Observation(version=name, outcome=Outcome.OK, similarity=1.0, latency=0.002) for name in SHADOWS
        ]
        for start in range(0, len(made), 256):
            batch = Tally()
            for capture in made[start : start + 256]:
                batch.add_capture(epoch, received_at=capture.received_at, live_latency=0.01, observations=observations)
            batch.rollups()

    return {
        "  reading messages": _timed(lambda: [capture_codec.decode(data) for data in payload], len(made)),
        "  comparing labels": _timed(lambda: asyncio.run(compare()), len(made)),
        "  tallying micro-batches": _timed(tally, len(made)),
    }


def _timed(do: Callable[[], object], count: int) -> float:
    spent = []
    for _ in range(ROUNDS):
        before = time.process_time()
        do()
        spent.append(time.process_time() - before)
    return statistics.median(spent) / (count * len(SHADOWS)) * 1e6


def calls_alone(caller: subprocess.Popen[str]) -> float:
    """Microseconds of processor time per call."""
    assert caller.stdin is not None
    assert caller.stdout is not None
    caller.stdin.write("again\n")
    caller.stdin.flush()
    return float(caller.stdout.readline()) / (CAPTURES * len(SHADOWS)) * 1e6


async def compare_rounds(database_url: str, nats_url: str, stack: ExitStack) -> None:
    """The worker and the bare calls in turns."""
    addresses = {name: stack.enter_context(station("version", "A")).address for name in SHADOWS}
    epoch = await begin(database_url, {"base": "127.0.0.1:1", **addresses})
    client = await nats.connect(nats_url)
    log = Log(client, Settings(nats_url=nats_url))
    await log.writer.open()
    worker = stack.enter_context(process("work", database_url=database_url, nats_url=nats_url))
    caller = stack.enter_context(process("call", *addresses.values()))
    usage = psutil.Process(worker.pid)
    costs: dict[str, list[float]] = {"worker": [], "calls alone": []}
    rates = []
    # The first round warms both up.
    for number in range(ROUNDS + 1):
        made = captures(CAPTURES, epoch=epoch, prefix=f"round-{number}")
        before, began = sum(usage.cpu_times()[:2]), time.monotonic()
        await log.append(made, prefix=f"round-{number}")
        await log.drained()
        took, spent = time.monotonic() - began, sum(usage.cpu_times()[:2]) - before
        alone = await asyncio.to_thread(calls_alone, caller)
        if number:
            costs["worker"].append(spent / (CAPTURES * len(SHADOWS)) * 1e6)
            costs["calls alone"].append(alone)
            rates.append(CAPTURES * len(SHADOWS) / took)
    await client.close()
    total = await counted(database_url, epoch)
    if total != (ROUNDS + 1) * CAPTURES * len(SHADOWS):
        raise RuntimeError(f"{total} observations were counted")
    show(costs, await asyncio.to_thread(parts, made, epoch), rates)


def show(costs: Mapping[str, Sequence[float]], others: Mapping[str, float], rates: Sequence[float]) -> None:
    """Print the medians."""
    table = Table(title=f"{ROUNDS} rounds of {CAPTURES} captures of 1 KiB to {len(SHADOWS)} shadows, one worker")
    for column in ("", "CPU µs/observation", "spread", "share of the worker's"):
        table.add_column(column, justify="left" if not column else "right")
    whole = statistics.median(costs["worker"])
    for name, own in costs.items():
        median = statistics.median(own)
        table.add_row(name, f"{median:.0f}", f"{min(own):.0f}–{max(own):.0f}", f"{median / whole:.0%}")
    for name, cost in others.items():
        table.add_row(name, f"{cost:.1f}", "", f"{cost / whole:.0%}")
    console = Console()
    console.print(table)
    console.print(f"{statistics.median(rates):.0f} observations/s by the clock, servers on the same machine")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        postgres, engine = EmbeddedPostgres(Path(folder) / "postgres"), EmbeddedNats(Path(folder) / "nats")
        database_url = postgres.start()
        stack.callback(postgres.stop)
        migrate(database_url)
        nats_url = engine.start()
        stack.callback(engine.stop)
        asyncio.run(compare_rounds(database_url, nats_url, stack))


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"work": work, "call": call}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(ROLES[sys.argv[1]](*sys.argv[2:]))  # type: ignore[arg-type]  # they are coroutine functions
    else:
        main()
