"""Routers as they run, in front of version servers that answer with any bytes, with a model in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters import capture_codec
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.app import router as router_role
from multishadow_server.core import flags
from multishadow_server.core.capture import Capture, CaptureBatch, DropTally
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.entrypoints.listening import WAITING_LIMITS
from multishadow_server.settings import Settings
from waiting import PATIENCE, until

PREDICT = "/multishadow.v1.PredictionService/Predict"
Context = grpc.aio.ServicerContext[bytes, bytes]
Answering = Callable[[bytes, Context], Awaitable[bytes]]


@dataclass(slots=True)
class RawVersion:
    """A running version server that neither reads requests nor writes responses, and what it was sent."""

    answering: Answering
    address: str = ""
    bodies: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    time_remaining: list[float | None] = field(default_factory=list)
    cancelled: int = 0


@asynccontextmanager
async def version(answering: Answering, *, address: str = "127.0.0.1:0") -> AsyncIterator[RawVersion]:
    """A version server until the block ends."""
    running = RawVersion(answering)

    async def predict(body: bytes, context: Context) -> bytes:
        running.bodies.append(body)
        running.metadata.append({str(key): value for key, value in context.invocation_metadata() or ()})
        running.time_remaining.append(context.time_remaining())
        try:
            return await running.answering(body, context)
        except asyncio.CancelledError:
            running.cancelled += 1
            raise

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), *WAITING_LIMITS])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(predict)
    service = PREDICT.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Predict": handler}),))
    port = server.add_insecure_port(address)
    running.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield running
    finally:
        await server.stop(grace=None)


def saying(response: bytes) -> Answering:
    """Always these bytes."""

    async def answer(_body: bytes, _context: Context) -> bytes:
        return response

    return answer


def hanging() -> Answering:
    """Never an answer."""

    async def answer(_body: bytes, _context: Context) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    return answer


def refusing(code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str | bytes]] = ()) -> Answering:
    """Always this status."""

    async def answer(_body: bytes, context: Context) -> bytes:
        await context.abort(code, details, tuple(trailing))
        raise AssertionError("abort raises")

    return answer


async def register(
    database_url: str,
    addresses: Mapping[str, str],
    claims: Mapping[str, dict[str, Any] | Claim],
    *,
    model: str = "spam",
    default_timeout: float = PATIENCE,
) -> int:
    """Put the model with its versions, in this order, and their flags; return the revision."""
    versions = tuple(Version(model=model, name=name, address=address) for name, address in addresses.items())
    engine = open_engine(database_url)
    try:
        async with PostgresControl(engine).change("test") as change:
            registered = Model(name=model, versions=versions, default_timeout=default_timeout)
            await change.put_model(registered)
            await change.put_versions(registered)
            for each in versions:
                claim = claims.get(each.name, Claim.OFF)
                definition = flags.claim_definition(model, claim) if isinstance(claim, Claim) else claim
                await change.put_flag(each.flag_key, definition, reason="test")
            return change.revision
    finally:
        await engine.dispose()


async def set_flag(database_url: str, key: str, definition: Mapping[str, Any]) -> int:
    """One flag write, as control makes it; return its revision."""
    engine = open_engine(database_url)
    try:
        async with PostgresControl(engine).change("test") as change:
            await change.put_flag(key, definition, reason="test")
            return change.revision
    finally:
        await engine.dispose()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a caller got."""

    response: bytes
    trailing: dict[str, str | bytes]
    initial: dict[str, str | bytes]


class Caller:
    """Calls a router; every call is raw bytes."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self.channel = channel
        self.address = address
        self._predict: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)

    def begin(self, body: bytes, **options: Any) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        """A call under way."""
        return self._predict(body, **{"timeout": PATIENCE, **options})

    async def predict(self, body: bytes, **options: Any) -> Reply:
        """A call's answer. Raises grpc.aio.AioRpcError."""
        call = self.begin(body, **options)
        response = await call
        return Reply(
            response=response,
            trailing={str(key): value for key, value in await call.trailing_metadata() or ()},
            initial={str(key): value for key, value in await call.initial_metadata() or ()},
        )

    async def status(self, body: bytes, **options: Any) -> grpc.aio.AioRpcError:
        """The error that a call ends with."""
        try:
            reply = await self.predict(body, **options)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError(f"the call was answered: {reply}")


def trailing_of(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    """An error's trailing metadata."""
    return {str(key): value for key, value in error.trailing_metadata() or ()}


def a_request(model: str = "spam", **fields: Any) -> bytes:
    """A request's bytes."""
    return prediction_pb2.PredictRequest(model=model, **{"text": "hello", **fields}).SerializeToString()


@asynccontextmanager
async def router(database_url: str, nats_url: str, log_name: str, **more: Any) -> AsyncIterator[Caller]:
    """A router until the block ends, and a caller of it. The router's graceful stop is part of the block's end."""
    metrics_ready: Callable[[str], None] = more.pop("metrics_ready", lambda _: None)
    settings = Settings(
        **{
            "database_url": database_url,
            "nats_url": nats_url,
            "log_name": log_name,
            "router_listen": "127.0.0.1:0",
            "instance": f"router-of-{log_name}",
            "flag_check_interval": 0.2,
            "report_interval": 0.1,
            "drain_seconds": 5.0,
            **more,
        }
    )
    stop, serving = asyncio.Event(), asyncio.get_running_loop().create_future()
    role = asyncio.create_task(router_role.run(settings, stop, ready=serving.set_result, metrics_ready=metrics_ready))
    try:
        await asyncio.wait((role, serving), return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if role.done():
            await role
        async with calling(serving.result()) as caller:
            yield caller
    finally:
        stop.set()
        await role


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Caller]:
    """A caller of a running router, over a connection of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
               ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]  # fmt: skip
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Caller(channel, address)


class Logged:
    """What routers wrote to the capture log; read from the stream without consuming it."""

    def __init__(self, client: Client, log_name: str) -> None:
        self._js = client.jetstream()
        self._log_name = log_name

    async def batches(self) -> list[CaptureBatch]:
        """Every message so far; none before the first one made the stream."""
        try:
            state = (await self._js.stream_info(self._log_name)).state
        except NotFoundError:
            return []
        found = []
        for sequence in range(max(1, state.first_seq), state.last_seq + 1):
            message = await self._js.get_msg(self._log_name, sequence)
            found.append(capture_codec.decode(message.data or b""))
        return found

    async def captures(self, count: int) -> list[Capture]:
        """All captures, once there are so many of them."""
        await until(lambda: self._has(count))
        return [capture for batch in await self.batches() for capture in batch.captures]

    async def drops(self) -> list[DropTally]:
        """All drops so far."""
        return [drop for batch in await self.batches() for drop in batch.drops]

    async def _has(self, count: int) -> bool:
        return sum(len(batch.captures) for batch in await self.batches()) >= count
