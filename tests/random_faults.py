"""A whole system under load, whose processes are killed and frozen at random moments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import grpc
import grpc.aio
import psutil

from multishadow.v1 import control_pb2, control_pb2_grpc, prediction_pb2, prediction_pb2_grpc
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.settings import Settings
from version_servers import VersionServer, answering, diverging, serving
from waiting import PATIENCE, until

ROLES = ("router", "worker", "control")
ENGINES = ("postgres", "nats-server")
CALLERS = 8
# What a caller of several routers should have: https://grpc.io/docs/guides/retry/. A router that is killed takes the
# calls with it that it has under way; asked again, another one answers.
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
# A frozen process thaws after so long, or once the others have answered some requests.
LONGEST_FREEZE = 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What happens to one process.

    Args:
        target: a role or an engine.
        signal: SIGKILL; or SIGSTOP, which ends by itself.
    """

    target: str
    signal: signal.Signals

    def __str__(self) -> str:
        return f"{self.signal.name} {self.target}"


def every_fault(*, without: Iterable[str] = ()) -> list[Fault]:
    """Each role and engine killed, and frozen."""
    faults = [
        Fault(target=target, signal=how) for target in (*ROLES, *ENGINES) for how in (signal.SIGKILL, signal.SIGSTOP)
    ]
    return [fault for fault in faults if str(fault) not in without]


@dataclass(slots=True)
class Callers:
    """Calls under way all the time, each caller's on a connection of its own."""

    router: str
    answers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, prefix: str) -> None:
        """Call until `stop`; no two requests ask the same."""
        self._stop.clear()
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(self._call(f"{prefix}-{number}"))

    def stop(self) -> None:
        """No further calls; those under way finish."""
        self._stop.set()

    async def _call(self, caller: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", RETRIES)]
        async with grpc.aio.insecure_channel(self.router, options=options) as channel:
            predict = prediction_pb2_grpc.PredictionServiceStub(channel).Predict
            calls = 0
            while not self._stop.is_set():
                calls += 1
                name = f"{caller}-{calls}"
                try:
                    answer = await predict(
                        prediction_pb2.PredictRequest(model="spam", request_id=name, text=name), timeout=PATIENCE
                    )
                except grpc.aio.AioRpcError as error:
                    self.errors.append(f"{error.code().name}: {error.details()}")
                else:
                    self.answers[answer.classification.label] += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """What became of the copies for one candidate."""

    compared: int
    uncomparable: int
    dropped: Mapping[str, int]
    duplicates: int

    @property
    def accounted(self) -> int:
        """All of them."""
        return self.compared + self.uncomparable + sum(self.dropped.values()) + self.duplicates


class System:
    """Two routers, two workers, control and both engines, as `multishadow serve` starts them; a model with A and B.

    Its live version and its candidates answer from this process, and are left alone.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        settings: Settings,
        control: control_pb2_grpc.ControlServiceAsyncStub,
        servers: Mapping[str, VersionServer],
    ) -> None:
        self.settings = settings
        self.servers = servers
        self.callers = Callers(endpoints.router)
        self._control = control
        self._quiet_since = 0.0

    async def compare_from_now_on(self) -> None:
        """Begin an experiment on every request, and wait until each router follows."""
        started = await self._control.StartExperiment(
            control_pb2.StartExperimentRequest(model="spam", candidates=["A", "B"], percent=100, actor="test")
        )
        await until(lambda: self._routers_follow(started.revision))

    async def _routers_follow(self, revision: int) -> bool:
        status = await self._control.GetStatus(control_pb2.GetStatusRequest())
        living = {process.pid for process in self.processes("router")}
        followed = [each.pid for each in status.processes if each.role == "router" and each.revision >= revision]
        return len(living & set(followed)) == 2

    async def suffer(self, faults: Sequence[Fault], dice: random.Random) -> None:
        """Each of these, in random order and at random moments, while callers call; returns when all of it is whole."""
        calling = asyncio.create_task(self.callers.run(f"calls-{dice.random()}"))
        try:
            for fault in dice.sample(faults, len(faults)):
                await self._answered(dice.randint(20, 120))
                # Callers need one router to ask.
                await until(lambda: sum(map(_listens, self.processes("router"))) == 2)
                await self._inflict(fault, dice)
            await self._answered(50)
            await until(self._whole)
        finally:
            self.callers.stop()
            await calling
            self._quiet_since = time.time()

    async def _inflict(self, fault: Fault, dice: random.Random) -> None:
        # The one before may have ended it.
        await until(lambda: self.processes(fault.target))
        struck = self._struck(fault, dice)
        for process in struck:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(fault.signal)
        if fault.signal is signal.SIGSTOP:
            try:
                with contextlib.suppress(AssertionError):
                    await self._answered(dice.randint(50, 200), within=LONGEST_FREEZE)
            finally:
                for process in struck:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.resume()

    def _struck(self, fault: Fault, dice: random.Random) -> list[psutil.Process]:
        """One process of a role; all of PostgreSQL's, or one of its connections' when that is killed."""
        processes = self.processes(fault.target)
        if fault.target != "postgres":
            return [dice.choice(processes)]
        postmaster = [process for process in processes if process.pid == self._postmaster()]
        return processes if fault.signal is signal.SIGSTOP else dice.choice([postmaster, [dice.choice(processes)]])

    async def _answered(self, more: int, *, within: float = PATIENCE) -> None:
        """Wait until so many more requests were answered: the load is the clock."""
        wanted = self.callers.answers.total() + more
        await until(lambda: self.callers.answers.total() >= wanted, within=within)

    def processes(self, target: str) -> list[psutil.Process]:
        """The living processes of a role or an engine of this system."""
        if target == "postgres":
            return _family(self._postmaster())
        ours = [process for process in psutil.Process().children(recursive=True) if _runs(process, target)]
        # Other tests of this process share a nats-server, which is none of ours.
        folder = str(self.settings.data_dir.resolve())
        return [process for process in ours if target != "nats-server" or _names(process, folder)]

    def _postmaster(self) -> int:
        try:
            return int((self.settings.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return 0

    async def _whole(self) -> bool:
        """Whether every role runs, and every router and worker says so and has handed on what it held."""
        if [len(self.processes(role)) for role in ROLES] != [2, 2, 1]:
            return False
        try:
            status = await self._control.GetStatus(control_pb2.GetStatusRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        reported = {each.pid for each in status.processes}
        return all(process.pid in reported for role in ROLES for process in self.processes(role))

    async def settled(self) -> bool:
        """Whether routers hold no captures, and workers have none under way."""
        try:
            status = await self._control.GetStatus(control_pb2.GetStatusRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        living = {process.pid for role in ROLES for process in self.processes(role)}
        reports = [each for each in status.processes if each.pid in living]
        held = [each.counters.get("buffered", 0) + each.counters.get("under_way", 0) for each in reports]
        fresh = all(each.seen_at.ToDatetime(UTC).timestamp() > self._quiet_since for each in reports)
        return fresh and not any(held) and status.HasField("log_messages_waiting") and not status.log_messages_waiting

    async def copies(self) -> dict[str, Copies]:
        """What became of the copies, by candidate."""
        found = await self._control.Compare(control_pb2.CompareRequest(model="spam"))
        assert not found.live_failures
        return {
            each.version: Copies(
                compared=each.n,
                uncomparable=each.uncomparable,
                dropped=dict(each.dropped_by_reason),
                duplicates=each.duplicates,
            )
            for each in found.candidates
        }


@asynccontextmanager
async def system(folder: Path) -> AsyncIterator[System]:
    """One that runs until the block ends."""
    settings = Settings(
        data_dir=folder,
        router_listen="127.0.0.1:0",
        control_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        log_partitions=4,
        worker_linger=0.1,
        # A database that is away for a moment is no reason here to stop shadowing.
        flag_stale_after=120.0,
    )
    async with AsyncExitStack() as stack:
        behaviours = {"base": answering(), "A": answering(), "B": diverging(0.2)}
        servers = {name: await stack.enter_async_context(serving(behaviour)) for name, behaviour in behaviours.items()}
        deployment = Deployment(settings, routers=2, workers=2, report=lambda _: None, log_level="error")
        endpoints = await stack.enter_async_context(deployment)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(endpoints.control))
        control = control_pb2_grpc.ControlServiceStub(channel)
        # Nobody is to blame for a call that a frozen worker took too long for.
        versions = [
            control_pb2.VersionSpec(name=name, address=server.address, timeout_ms=60_000)
            for name, server in servers.items()
        ]
        await control.ApplyModel(control_pb2.ApplyModelRequest(model="spam", versions=versions, actor="test"))
        running = System(endpoints, settings, control, servers)
        await running.compare_from_now_on()
        yield running


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _listens(process: psutil.Process) -> bool:
    try:
        return any(each.status == psutil.CONN_LISTEN for each in process.net_connections())
    except psutil.NoSuchProcess:
        return False


def _names(process: psutil.Process, folder: str) -> bool:
    """Whether a path in this folder is among its arguments."""
    try:
        return any(word.startswith(folder) for word in process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _runs(process: psutil.Process, target: str) -> bool:
    """Whether a process runs a role, or is nats-server."""
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    if target in ENGINES:
        return bool(words) and Path(words[0]).name == target
    return "multishadow_server" in words and target in words
