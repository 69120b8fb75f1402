"""The stations of a request, each in a process of its own: version servers, a bare proxy, routers, workers; the load.

    python bench/stations.py version|hung|proxy|tuned_proxy|router|worker|control [ADDRESS]

prints the address that it listens on, says for every line of input how many tasks it has, and runs until its input
ends. gRPC's core is told in each what `multishadow`
tells it in a router, in the bare proxy too: what is compared is the code, not the setting. GRPC_EXPERIMENTS of the
environment stands. Routers, workers and the tuned proxy run on the event loop that `multishadow` gives routers and
workers, the others on Python's.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import psutil

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres, dies_with_parent
from multishadow_server.adapters.model_gateway import channel_options
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.app import control as control_role
from multishadow_server.app import router as router_role
from multishadow_server.app import worker as worker_role
from multishadow_server.core import flags
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.entrypoints import event_loop, grpc_core
from multishadow_server.entrypoints.cli import Role
from multishadow_server.entrypoints.listening import WAITING_LIMITS
from multishadow_server.entrypoints.prediction import server_options
from multishadow_server.settings import Settings

SERVICE = "multishadow.v1.PredictionService"
PREDICT = f"/{SERVICE}/Predict"
MODEL = "bench"
SHADOWS = ("A", "B", "C")
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]

Context = grpc.aio.ServicerContext[bytes, bytes]
Log = TypeVar("Log", bound=EmbeddedNats)


@contextmanager
def engines() -> Iterator[tuple[EmbeddedPostgres, EmbeddedNats]]:
    """A running PostgreSQL and a running nats-server, in a folder that goes with the block."""
    with engines_with(EmbeddedNats) as both:
        yield both


@contextmanager
def engines_with(log_of: Callable[[Path], Log]) -> Iterator[tuple[EmbeddedPostgres, Log]]:
    """The same with a nats-server that this makes for a folder."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        postgres, nats = EmbeddedPostgres(Path(folder) / "postgres"), log_of(Path(folder) / "nats")
        postgres.start()
        stack.callback(postgres.stop)
        nats.start()
        stack.callback(nats.stop)
        yield postgres, nats


# --- in a process of its own --------------------------------------------------------------------------------------


async def _until_input_ends() -> None:
    while await asyncio.to_thread(sys.stdin.buffer.readline):
        _ready(str(len(asyncio.all_tasks())))


def _ready(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


async def _serve(
    predict: Callable[[bytes, Context], Awaitable[bytes]], options: Sequence[tuple[str, int]] = WAITING_LIMITS
) -> None:
    server = grpc.aio.server(options=options)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(predict)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Predict": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _ready(f"127.0.0.1:{port}")
    await _until_input_ends()
    await server.stop(None)


async def version_server(name: str) -> None:
    """Answers at once, with its name."""
    response = prediction_pb2.PredictResponse(
        classification=prediction_pb2.Classification(label=name, confidence=0.9)
    ).SerializeToString()

    async def predict(_body: bytes, _context: Context) -> bytes:
        return response

    await _serve(predict)


async def hung_server() -> None:
    """Never answers."""

    async def predict(_body: bytes, _context: Context) -> bytes:
        await asyncio.Event().wait()
        return b""

    await _serve(predict)


async def bare_proxy(
    address: str,
    *,
    to_callers: Sequence[tuple[str, int]] = WAITING_LIMITS,
    to_version: Sequence[tuple[str, int]] = OPTIONS,
) -> None:
    """The least that a pass-through in grpc.aio can be: bytes, metadata and deadline on, bytes back."""
    async with grpc.aio.insecure_channel(address, options=to_version) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)

        async def predict(body: bytes, context: Context) -> bytes:
            # "user-agent" is gRPC's own, and cannot be passed on.
            metadata = tuple(entry for entry in context.invocation_metadata() or () if entry[0] != "user-agent")
            return await call(body, timeout=context.time_remaining(), metadata=metadata)

        await _serve(predict, to_callers)


async def tuned_proxy(address: str) -> None:
    """The same on a router's event loop, with the options of a router's server and of its channels."""
    largest = Settings().max_message_bytes
    await bare_proxy(address, to_callers=server_options(largest), to_version=channel_options(largest))


async def _run(role: Role) -> None:
    """A role, with settings from the environment."""
    stop = asyncio.Event()
    running = asyncio.create_task(role(Settings(), stop, ready=_ready))
    await asyncio.wait((running, asyncio.create_task(_until_input_ends())), return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await running


# --- starting them ------------------------------------------------------------------------------------------------


class Station:
    """A running station."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address
        self._usage = psutil.Process(process.pid)
        # The id of another process's clock on Linux (clock_getcpuclockid(3)); psutil's times come in hundredths.
        self._clock = (~process.pid << 3) | 2

    def cpu(self) -> float:
        """Seconds of processor time that it has used so far."""
        return time.clock_gettime(self._clock)

    def memory(self) -> int:
        """Bytes that it holds in memory."""
        return int(self._usage.memory_info().rss)

    def tasks(self) -> int:
        """How many tasks its event loop has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def station(role: str, *arguments: str, **environment: object) -> Iterator[Station]:
    """A station until the block ends, with these settings of ours; names in capitals are variables as they are."""
    settings = {
        name if name.isupper() else f"MULTISHADOW_{name.upper()}": str(value) for name, value in environment.items()
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), role, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"GRPC_EXPERIMENTS": grpc_core.POLLED_SOCKETS, **os.environ, **settings},
        preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the {role} did not start")
        yield Station(process, address)
    finally:
        process.stdin.close()
        process.wait(20)


async def register(database_url: str, addresses: dict[str, str], claims: dict[str, dict[str, Any]]) -> None:
    """Put the model with its versions, in this order, and their flags."""
    engine = open_engine(database_url)
    versions = tuple(Version(model=MODEL, name=name, address=address) for name, address in addresses.items())
    async with PostgresControl(engine).change("bench") as change:
        await change.put_model(Model(name=MODEL, versions=versions))
        await change.put_versions(Model(name=MODEL, versions=versions))
        for version in versions:
            await change.put_flag(version.flag_key, claims[version.name], reason="bench")
    await engine.dispose()


def claim(name: Claim, percent: float = 100.0, *, model: str = MODEL) -> dict[str, Any]:
    """A flag's definition."""
    return flags.claim_definition(model, name, percent)


# --- the load -----------------------------------------------------------------------------------------------------


def a_request(number: int, size: int = 1024) -> bytes:
    """A request of about `size` bytes, with a session and two attributes."""
    request = prediction_pb2.PredictRequest(
        model=MODEL, request_id=f"request-{number}", session_id=f"session-{number % 5_000}", raw=bytes(size)
    )
    request.attributes.update({"country": "nl", "plan": "pro"})
    return request.SerializeToString()


async def load(address: str, requests: Sequence[bytes], *, concurrency: int) -> list[float]:
    """Send them all; each one's latency in seconds. Every one must be answered."""
    latencies: list[float] = []
    waiting = iter(requests)
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)

        async def caller() -> None:
            for body in waiting:
                started = time.perf_counter()
                await call(body, timeout=30.0)
                latencies.append(time.perf_counter() - started)

        await asyncio.gather(*(caller() for _ in range(concurrency)))
    return latencies


async def paced(address: str, requests: Sequence[bytes], *, rate: float) -> list[float]:
    """Send so many a second, whether or not those before were answered; each one's latency in seconds."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)

        async def one(body: bytes) -> float:
            started = time.perf_counter()
            await call(body, timeout=30.0)
            return time.perf_counter() - started

        begun = time.perf_counter()
        calls = []
        for number, body in enumerate(requests):
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            calls.append(asyncio.create_task(one(body)))
        return await asyncio.gather(*calls)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


ROLES: dict[str, Callable[..., Awaitable[None]]] = {
    "version": version_server,
    "hung": hung_server,
    "proxy": bare_proxy,
    "tuned_proxy": tuned_proxy,
    "router": partial(_run, router_role.run),
    "worker": partial(_run, worker_role.run),
    "control": partial(_run, control_role.run),
}

if __name__ == "__main__":
    with asyncio.Runner(
        loop_factory=event_loop.factory("router" if sys.argv[1] == "tuned_proxy" else sys.argv[1])
    ) as runner:
        runner.run(ROLES[sys.argv[1]](*sys.argv[2:]))  # type: ignore[arg-type]  # they are coroutine functions
