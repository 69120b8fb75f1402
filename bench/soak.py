"""Whether anything grows while nothing changes: every role for ten minutes at a steady rate.

    python bench/soak.py [--minutes 10] [--rate 200]

Two routers on one address, a worker, control and both engines, each a process of its own; callers that ask at an even
rate, over new connections every few seconds; every request to three shadows, one of which always diverges; and
somebody who looks at the comparison and writes a flag now and then. The log has one partition: what a worker remembers
of inputs (65,000 keys for each, docs/decisions/duplicate-inputs.md) is then full when the warm-up ends, and so are the
two minutes of messages that JetStream remembers. After the warm-up, memory that is a process's own is compared: the
median of the last tenth of the time with that of the first; of open files, threads and tasks the fewest. Own is what it
took for itself (anonymous memory); not the pages of files, nor those of PostgreSQL's shared buffers, which are one
process's or everybody's by who touched them last, and grow with the database up to their limit. Of nats-server it is
what its heap holds after a collection, at least: in between, Go lets it grow to twice that, and where in such a wave
the ten minutes begin and end says nothing; nor do messages that are under way in one moment.
The exit code is 1 when memory grew by more than 5 %, when files, threads or tasks grew by more than 5 % and ten, or
when captures were lost.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import nats
import numpy as np
import psutil
import psycopg
from live_path import LOG, register
from rich.console import Console
from rich.table import Table
from stations import OPTIONS, Station, engines_with, station
from wire import Callers, Wire

from multishadow.v1 import control_pb2, control_pb2_grpc
from multishadow_server.adapters.embedded import EmbeddedNats
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.core import flags
from multishadow_server.core.routing import Claim
from multishadow_server.settings import Settings

CASE = (100, 3)
WARM_UP = 0.4  # of the time
SAMPLE_SECONDS = 2.0
STINT_SECONDS = 10.0
LOOK_SECONDS = 5.0
# Neighbouring samples say nearly the same; a slope's error is taken from means of so many.
BLOCKS = 20
GROWTH = 0.05
# Which router a connection comes to is the kernel's draw, and so is the number of calls at the moment of a look.
SPARE = 10
MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One look at a role: bytes of its own and resident, and numbers. An engine has no tasks that we know of."""

    at: float
    own: int
    resident: int
    files: int
    threads: int
    tasks: int


class Watched:
    """A role, or an engine with its processes.

    Args:
        pid: of its first process.
        station: of a role of ours.
        own: says how many bytes of its own it has; None: anonymous memory.
        typical: what of these stands for a tenth of the time.
    """

    def __init__(
        self,
        pid: int,
        station: Station | None = None,
        *,
        own: Callable[[], int] | None = None,
        typical: Callable[[Sequence[float]], float] = statistics.median,
    ) -> None:
        self._process = psutil.Process(pid)
        self._station = station
        self._own = own
        self.typical = typical
        self.samples: list[Sample] = []

    def look(self) -> None:
        """Take a sample."""
        own = resident = files = threads = 0
        for process in (self._process, *self._process.children(recursive=True)):
            # A process of PostgreSQL may end while it is looked at.
            try:
                memory, opened, running = process.memory_info(), process.num_fds(), process.num_threads()
                own += anonymous(process.pid)
            except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                continue
            resident, files, threads = resident + memory.rss, files + opened, threads + running
        if self._own is not None:
            own = self._own()
        tasks = self._station.tasks() if self._station else 0
        sample = Sample(at=time.monotonic(), own=own, resident=resident, files=files, threads=threads, tasks=tasks)
        self.samples.append(sample)


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory; of what processes share since a fork, each has its part (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))


class ProfiledNats(EmbeddedNats):
    """A nats-server that says what is on its heap."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._profiles_at = free.getsockname()[1]

    def _configuration(self) -> str:
        return f"{super()._configuration()}\nprof_port: {self._profiles_at}\n"

    def live_heap(self) -> int:
        """Bytes that its heap holds after a collection (Go's net/http/pprof)."""
        connection = http.client.HTTPConnection("127.0.0.1", self._profiles_at, timeout=30)
        try:
            connection.request("GET", "/debug/pprof/heap?gc=1&debug=1")
            profile = connection.getresponse().read().decode()
        finally:
            connection.close()
        (held,) = re.findall(r"^# HeapAlloc = (\d+)$", profile, re.MULTILINE)
        return int(held)


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How one number went after the warm-up.

    Args:
        start, end: what is typical of the first and the last tenth of the time.
        largest: of all samples.
        slope, error: per hour, by least squares over means of blocks; the standard error.
    """

    start: float
    end: float
    largest: float
    slope: float
    error: float

    @classmethod
    def of(
        cls,
        at: Sequence[float],
        values: Sequence[float],
        typical: Callable[[Sequence[float]], float] = statistics.median,
    ) -> Course:
        """Read it from samples, at least `BLOCKS` of them; `typical` is what stands for a tenth of the time."""
        tenth = max(1, len(values) // 10)
        hours, means = (
            np.array([float(np.mean(block)) for block in np.array_split(np.array(each), BLOCKS)])
            for each in (at, values)
        )
        hours = (hours - hours.mean()) / 3600
        slope = float(hours @ means / (hours @ hours))
        residual = means - means.mean() - slope * hours
        error = float(np.sqrt(residual @ residual / (BLOCKS - 2) / (hours @ hours)))
        start, end = typical(values[:tenth]), typical(values[-tenth:])
        return cls(start=start, end=end, largest=max(values), slope=slope, error=error)

    def grew(self, *, spare: float = 0.0) -> bool:
        """Whether the end lies over the start by more than the bound and so much to spare."""
        return self.end > self.start * (1 + GROWTH) + spare


# --- what goes on meanwhile ---------------------------------------------------------------------------------------


async def call_steadily(callers: Callers, address: str, *, rate: float, until: float) -> int:
    """Stints of calls until that time on the monotonic clock; how many were made. Every one must be answered."""
    made = 0
    while time.monotonic() < until:
        stint = round(rate * min(STINT_SECONDS, max(1.0, until - time.monotonic())))
        made += len(await asyncio.to_thread(callers.at_rate, address, stint, rate=rate))
    return made


async def told_why(calls: Awaitable[int], database_url: str) -> int:
    """The same; when a call fails, what every process says of itself is printed first."""
    try:
        return await calls
    except RuntimeError:
        # Two reports later, they know of it.
        await asyncio.sleep(2 * Settings().report_interval)
        engine = open_engine(database_url)
        for status in await PostgresControl(engine).processes():
            print(status.role, status.instance, dict(status.counters), file=sys.stderr)
        await engine.dispose()
        raise


async def look_and_write(control: str, database_url: str, *, until: float) -> None:
    """What people and dashboards do: read the comparison, and write a flag of no version, which is a new revision."""
    engine = open_engine(database_url)
    async with grpc.aio.insecure_channel(control, options=OPTIONS) as channel:
        stub = control_pb2_grpc.ControlServiceStub(channel)
        while time.monotonic() < until:
            await stub.Compare(control_pb2.CompareRequest(), timeout=30)
            await stub.GetStatus(control_pb2.GetStatusRequest(), timeout=30)
            async with PostgresControl(engine).change("soak") as change:
                await change.put_flag("soak.flag", flags.claim_definition("soak", Claim.OFF), reason="soak")
            await asyncio.sleep(LOOK_SECONDS)
    await engine.dispose()


async def watch(roles: Mapping[str, Watched], *, until: float) -> None:
    """Look at all of them, again and again."""
    while time.monotonic() < until:
        for role in roles.values():
            await asyncio.to_thread(role.look)
        await asyncio.sleep(SAMPLE_SECONDS)


@contextmanager
def free_address() -> Iterator[str]:
    """An address for several routers: held for them, without listening, until the block ends."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


async def soak(*, minutes: float, rate: float, stack: ExitStack) -> bool:
    """Do it all; whether it held."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    wire = Wire.compiled(folder)
    live, other = (stack.enter_context(wire.version(label)).address for label in ("same", "other"))
    postgres, log = stack.enter_context(engines_with(ProfiledNats))
    database_url = postgres.create_database("soak")
    await asyncio.to_thread(migrate, database_url)
    model = await register(database_url, CASE, live=live, shadow=live, odd=other)
    settings = {"database_url": database_url, "nats_url": log.url, "log_name": LOG, "log_partitions": 1}
    address = stack.enter_context(free_address())
    started = {
        "router 1": stack.enter_context(station("router", **settings, router_listen=address, instance="router-1")),
        "router 2": stack.enter_context(station("router", **settings, router_listen=address, instance="router-2")),
        "worker": stack.enter_context(station("worker", **settings)),
        "control": stack.enter_context(
            station("control", **settings, control_listen="127.0.0.1:0", http_listen="127.0.0.1:0")
        ),
    }
    roles = {name: Watched(role.process.pid, role) for name, role in started.items()}
    roles |= {"PostgreSQL": Watched(postgres.pid), "nats-server": Watched(log.pid, own=log.live_heap, typical=min)}
    until = time.monotonic() + minutes * 60
    sizes = [await size_of(database_url)]
    made, *_ = await asyncio.gather(
        told_why(call_steadily(Callers(wire, model), address, rate=rate, until=until), database_url),
        look_and_write(started["control"].address, database_url, until=until),
        watch(roles, until=until),
    )
    sizes.append(await size_of(database_url))
    flat = show(roles, minutes=minutes, rate=rate)
    return await accounts(database_url, log.url, made=made, sizes=sizes) and flat


# --- what it comes to ---------------------------------------------------------------------------------------------


async def size_of(database_url: str) -> int:
    """Bytes of the database."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute("SELECT pg_database_size(current_database())")).fetchone()
    assert row is not None
    return int(row[0])


async def accounts(database_url: str, nats_url: str, *, made: int, sizes: Sequence[int]) -> bool:
    """Print what became of the requests and of the disk; whether every sampled one was worked on."""
    engine = open_engine(database_url)
    client = await nats.connect(nats_url)
    deadline = time.monotonic() + 60
    while True:
        totals: dict[str, int] = {}
        for status in await PostgresControl(engine).processes():
            for name in ("requests", "sampled", "captures"):
                totals[name] = totals.get(name, 0) + status.counters.get(name, 0)
        done = totals["requests"] == made and totals["captures"] == totals["sampled"]
        if done or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    state = (await client.jetstream().stream_info(LOG)).state
    await client.close()
    await engine.dispose()
    print(
        f"{made} calls answered, {totals['requests']} counted; {totals['sampled']} sampled, {totals['captures']} "
        f"worked on. The database grew from {sizes[0] / MEBIBYTE:.1f} to {sizes[1] / MEBIBYTE:.1f} MiB; the log holds "
        f"{state.messages} messages, {state.bytes} bytes."
    )
    return done


def show(roles: Mapping[str, Watched], *, minutes: float, rate: float) -> bool:
    """Print the table; whether nothing grew."""
    table = Table(title=f"{minutes:g} minutes at {rate:g} requests/s, after {minutes * WARM_UP:g} of warm-up; MiB")
    columns = ("", "own: start", "end", "change", "slope per hour", "largest", "resident", "files", "threads", "tasks")
    for column in (*columns, "verdict"):
        table.add_column(column, justify="left" if not column else "right")
    flat = True
    for name, role in roles.items():
        samples = role.samples[int(len(role.samples) * WARM_UP) :]
        at = [sample.at for sample in samples]
        memory = Course.of(at, [sample.own / MEBIBYTE for sample in samples], role.typical)
        # The fewest: calls and connections that happen to be under way come and go, what leaks stays.
        counts = [
            Course.of(at, [getattr(sample, number) for sample in samples], min)
            for number in ("files", "threads", "tasks")
        ]
        grew = memory.grew() or any(course.grew(spare=SPARE) for course in counts)
        flat = flat and not grew
        table.add_row(
            name, f"{memory.start:.1f}", f"{memory.end:.1f}", f"{memory.end / memory.start - 1:+.1%}",
            f"{memory.slope:+.1f} ± {memory.error:.1f}", f"{memory.largest:.1f}",
            f"{samples[-1].resident / MEBIBYTE:.1f}",
            *(f"{course.start:.0f} → {course.end:.0f}" for course in counts), "grew" if grew else "flat",
        )  # fmt: skip
    Console(width=150).print(table)
    return flat


def main() -> None:
    """Soak, and say by the exit code whether it held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; at least 2")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    options = parser.parse_args()
    if options.minutes < 2:
        parser.error("less than two minutes are all warm-up")
    with ExitStack() as stack:
        sys.exit(not asyncio.run(soak(minutes=options.minutes, rate=options.rate, stack=stack)))


if __name__ == "__main__":
    main()
