"""A call whose path is no UTF-8 breaks a server of grpc.aio: another one takes its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

import bad_input
from multishadow_server.entrypoints.lasting_server import LastingServer
from multishadow_server.errors import FailedPrecondition
from waiting import PATIENCE, until

PATH = "/a.B/C"
BREAKING = bad_input.greeting() + bad_input.a_call(PATH, b"x").replace(PATH.encode(), b"/a.B\xa0C")


@asynccontextmanager
async def lasting(
    gate: asyncio.Event, arrived: list[bytes], *, shared: int, answered: list[bytes] | None = None
) -> AsyncIterator[tuple[str, list[grpc.aio.Server]]]:
    """A server that answers while the gate is open; its address, and every server that was made."""
    made: list[grpc.aio.Server] = []

    async def answer(body: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        arrived.append(body)
        await gate.wait()
        if answered is not None:
            answered.append(body)
        return body

    def make() -> grpc.aio.Server:
        server = grpc.aio.server(options=[("grpc.so_reuseport", shared)])
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
        made.append(server)
        return server

    def bind(server: grpc.aio.Server, address: str) -> str:
        try:
            return f"127.0.0.1:{server.add_insecure_port(address)}"
        except RuntimeError as error:
            raise FailedPrecondition(str(error)) from error

    server = LastingServer(make, bind)
    address = await server.start("127.0.0.1:0")
    try:
        yield address, made
    finally:
        await server.stop(5.0)


@pytest.mark.parametrize("shared", [0, 1])
async def test_a_broken_server_is_replaced_at_its_address_and_calls_under_way_finish(
    shared: int, caplog: pytest.LogCaptureFixture
) -> None:
    gate, arrived = asyncio.Event(), list[bytes]()
    async with lasting(gate, arrived, shared=shared) as (address, made), grpc.aio.insecure_channel(address) as channel:
        under_way = _call(channel, b"before")
        await until(lambda: arrived == [b"before"])
        with caplog.at_level(logging.WARNING):
            for broken in (1, 2):
                _, writer = await asyncio.open_connection(*address.split(":"))
                writer.write(BREAKING)
                await writer.drain()
                await until(lambda broken=broken: len(made) == 1 + broken)  # type: ignore[misc]
                writer.close()
                async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
                    after = _call(other, b"after")
                    await until(lambda broken=broken: len(arrived) == 1 + broken)  # type: ignore[misc]
                    if broken == 2:
                        gate.set()
                        assert await after == b"after"
        assert await under_way == b"before"
    assert f"a call broke the server on {address}, and another takes its place" in caplog.text


async def test_a_stop_waits_for_calls_under_way_of_a_server_that_broke_before() -> None:
    gate, arrived, answered = asyncio.Event(), list[bytes](), list[bytes]()

    async def open_late(successor: grpc.aio.Server) -> None:
        await successor.wait_for_termination()
        for _ in range(100):
            await asyncio.sleep(0)
        gate.set()

    async with lasting(gate, arrived, shared=1, answered=answered) as (address, made):
        channel = grpc.aio.insecure_channel(address)
        under_way = _call(channel, b"before")
        await until(lambda: arrived == [b"before"])
        _, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(BREAKING)
        await writer.drain()
        await until(lambda: len(made) == 2)
        writer.close()
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
            await asyncio.wait_for(other.channel_ready(), PATIENCE)
        opening = asyncio.create_task(open_late(made[-1]))
    assert answered == [b"before"], "it has returned, and a process would end now"
    await opening
    assert await under_way == b"before"
    await channel.close()


def _call(channel: grpc.aio.Channel, body: bytes) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
    return method(body, timeout=PATIENCE, wait_for_ready=True)
