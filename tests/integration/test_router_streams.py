"""Streamed answers through a router and to shadows: when, how much at once, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
import nats
import pytest

import routers
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.core.protocols import PREDICT_STREAM
from multishadow_server.core.routing import Claim
from routers import Caller, Context, Logged, a_request, register, trailing_of
from waiting import until

Stream = grpc.aio.UnaryStreamCall[bytes, bytes]
Streaming = Callable[["StreamingVersion", Context], Awaitable[None]]


@dataclass(slots=True)
class StreamingVersion:
    """A running version server that streams; `written` counts messages that gRPC took from it."""

    streaming: Streaming
    address: str = ""
    written: int = 0
    cancelled: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, context: Context, message: bytes) -> None:
        await context.write(message)
        self.written += 1


@asynccontextmanager
async def version(streaming: Streaming) -> AsyncIterator[StreamingVersion]:
    running = StreamingVersion(streaming)

    async def stream(_body: bytes, context: Context) -> None:
        try:
            await running.streaming(running, context)
        except asyncio.CancelledError:
            running.cancelled += 1
            raise

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(stream)
    service = PREDICT_STREAM.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"PredictStream": handler}),))
    running.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield running
    finally:
        await server.stop(grace=None)


def chunk(text: str) -> bytes:
    return prediction_pb2.PredictResponse(text=text).SerializeToString()


def begin(caller: Caller, timeout: float = 20.0) -> Stream:
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = caller.channel.unary_stream(PREDICT_STREAM)
    return method(a_request(request_id="r-1"), timeout=timeout)


async def rest(call: Stream) -> list[bytes]:
    messages = []
    while isinstance(message := await call.read(), bytes):
        messages.append(message)
    return messages


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def logged(nats_url: str, log_name: str, stack: AsyncExitStack) -> Logged:
    client = await nats.connect(nats_url)
    stack.push_async_callback(client.close)
    return Logged(client, log_name)


async def test_messages_are_passed_on_as_they_arrive_and_captured_whole(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    async def streaming(server: StreamingVersion, context: Context) -> None:
        await context.send_initial_metadata((("x-first", "1"),))
        await server.write(context, chunk("Once "))
        await server.go_on.wait()
        await server.write(context, chunk("upon "))
        await server.write(context, chunk("a time"))
        context.set_trailing_metadata((("x-last", "2"),))

    live = await stack.enter_async_context(version(streaming))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        call = begin(caller)
        # The live version goes on only when its first message has arrived.
        assert await call.read() == chunk("Once ")
        assert dict(await call.initial_metadata())["x-first"] == "1"
        live.go_on.set()
        assert await rest(call) == [chunk("upon "), chunk("a time")]
        trailing = dict(await call.trailing_metadata())
    assert (trailing["x-last"], trailing["x-multishadow-version"]) == ("2", "base")
    assert trailing["x-multishadow-request-id"] == "r-1"
    (capture,) = await logged.captures(1)
    assert (capture.method, capture.response, capture.status_code) == (PREDICT_STREAM, chunk("Once upon a time"), 0)
    assert capture.live_first_latency is not None
    assert 0 < capture.live_first_latency <= capture.live_latency


async def test_a_slow_caller_holds_up_the_live_version_and_nothing_piles_up(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    message, many = chunk("x" * 64 * 1024), 400

    async def streaming(server: StreamingVersion, context: Context) -> None:
        for _ in range(many):
            await server.write(context, message)

    live = await stack.enter_async_context(version(streaming))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name, max_message_bytes=1 << 20) as caller:
        call = begin(caller)
        assert await call.read() == message
        held = await settled(lambda: live.written)
        # What fits into the windows and sockets of two connections, of 25 MiB.
        assert held < many // 2
        assert len(await rest(call)) == many - 1
        await until(lambda: live.written == many)
        await until(lambda: counted(logged))
    (drop,) = await logged.drops()
    assert (drop.reason, drop.count, drop.shadows) == ("too_large", 1, ("A",))
    assert await logged.captures(0) == []


async def counted(logged: Logged) -> bool:
    return bool(await logged.drops())


async def settled(count: Callable[[], int]) -> int:
    """The count once it has stayed the same for a while."""
    known, since = count(), time.monotonic()

    def same() -> bool:
        nonlocal known, since
        if count() != known:
            known, since = count(), time.monotonic()
        return time.monotonic() - since > 0.3

    await until(same)
    return known


async def test_an_error_after_messages_reaches_the_caller_as_it_is(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    async def streaming(server: StreamingVersion, context: Context) -> None:
        await server.write(context, chunk("Once "))
        await context.abort(grpc.StatusCode.DATA_LOSS, "forgot the rest", (("x-why", "age"),))

    newest = await stack.enter_async_context(version(streaming))
    await register(database_url, {"base": newest.address, "A": newest.address}, {"base": Claim.SHADOW, "A": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        call = begin(caller)
        assert await call.read() == chunk("Once ")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.DATA_LOSS, "forgot the rest")
    assert (trailing_of(failed.value)["x-why"], trailing_of(failed.value)["x-multishadow-version"]) == ("age", "A")
    (capture,) = await logged.captures(1)
    assert (capture.status_code, capture.response) == (15, b"")


async def test_a_caller_who_cancels_ends_the_live_stream(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    async def streaming(server: StreamingVersion, context: Context) -> None:
        await server.write(context, chunk("Once "))
        await server.go_on.wait()

    live = await stack.enter_async_context(version(streaming))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        call = begin(caller)
        await call.read()
        call.cancel()
        await until(lambda: live.cancelled == 1)
        # A deadline that passes ends it, too; that one is the live version's failure.
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await rest(begin(caller, timeout=1.0))
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: live.cancelled == 2)
        (capture,) = await logged.captures(1)
    assert (capture.status_code, capture.response) == (4, b"")


async def test_a_live_version_that_is_away_is_covered_by_an_older_one_before_the_first_message(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    async def streaming(server: StreamingVersion, context: Context) -> None:
        await server.write(context, chunk("Once "))

    base = await stack.enter_async_context(version(streaming))
    await register(database_url, {"base": base.address, "A": "127.0.0.1:1"}, {"base": Claim.LIVE, "A": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        call = begin(caller)
        assert await rest(call) == [chunk("Once ")]
        assert dict(await call.trailing_metadata())["x-multishadow-version"] == "base"


async def test_a_shadows_stream_that_never_ends_is_ended_by_its_time_limit(stack: AsyncExitStack) -> None:
    async def streaming(server: StreamingVersion, context: Context) -> None:
        await server.write(context, chunk("Once "))
        await server.go_on.wait()

    shadow = await stack.enter_async_context(version(streaming))
    gateway = GrpcModelGateway(max_message_bytes=1 << 20)
    stack.push_async_callback(gateway.aclose)
    answer = await gateway.call_stream(
        shadow.address, PREDICT_STREAM, a_request(), metadata=(), deadline=time.monotonic() + 0.5
    )
    assert (answer.status_code, answer.response) == (4, b"")
    assert answer.first_latency is not None
    assert answer.first_latency < answer.latency
    await until(lambda: shadow.cancelled == 1)
