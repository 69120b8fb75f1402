"""Calls of versions over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.service import ports
from waiting import PATIENCE

SERVICE = "test.Version"
METADATA = (("x-tenant", "acme"), ("x-trace-bin", b"\x00\xff"))


class Peer:
    """A version server that does as the request says."""

    def __init__(self) -> None:
        self.address = ""
        self.heard: dict[str, str | bytes] = {}
        self.seconds_left: float | None = None
        self.began, self.cancelled = asyncio.Event(), asyncio.Event()

    async def answer(self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.heard = dict(context.invocation_metadata() or ())
        self.seconds_left = context.time_remaining()
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"),))
        if body == b"fail":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many: größer", (("x-why", "quota"),))
        if body == b"hang":
            try:
                self.began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return body.upper()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """One that runs."""
    peer, server = Peer(), grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(peer.answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Answer": handler}),))
    peer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield peer
    await server.stop(None)


@pytest.fixture
async def gateway() -> AsyncIterator[GrpcModelGateway]:
    """One that is open."""
    gateway = GrpcModelGateway(max_message_bytes=1 << 20)
    yield gateway
    await gateway.aclose()


async def ask(gateway: GrpcModelGateway, address: str, body: bytes, *, within: float | None = 20.0) -> ports.Answer:
    deadline = None if within is None else time.monotonic() + within
    return await gateway.call(address, f"/{SERVICE}/Answer", body, metadata=METADATA, deadline=deadline)


async def test_an_answer_comes_with_the_versions_metadata(gateway: GrpcModelGateway, peer: Peer) -> None:
    answer = await ask(gateway, peer.address, b"hello")
    assert (answer.status_code, answer.response, answer.reached) == (0, b"HELLO", True)
    assert ("x-first", "1") in answer.initial_metadata
    assert ("x-last", "2") in answer.trailing_metadata
    assert 0 < answer.latency < 20
    assert {**peer.heard, **dict(METADATA)} == peer.heard


async def test_an_empty_answer_is_an_answer(gateway: GrpcModelGateway, peer: Peer) -> None:
    answer = await ask(gateway, peer.address, b"")
    assert (answer.status_code, answer.response) == (0, b"")


async def test_the_deadline_travels_with_the_call(gateway: GrpcModelGateway, peer: Peer) -> None:
    await ask(gateway, peer.address, b"hello", within=20.0)
    assert peer.seconds_left is not None
    # gRPC rounds it up on its way (grpc-timeout), by a hundredth at most.
    assert 10 < peer.seconds_left <= 20.2
    await ask(gateway, peer.address, b"hello", within=None)
    assert peer.seconds_left is None


async def test_a_failure_is_an_answer_in_the_versions_words(gateway: GrpcModelGateway, peer: Peer) -> None:
    answer = await ask(gateway, peer.address, b"fail")
    assert (answer.status_code, answer.status_message, answer.response) == (8, "too many: größer", b"")
    assert ("x-first", "1") in answer.initial_metadata
    assert ("x-why", "quota") in answer.trailing_metadata
    assert answer.reached


async def test_a_call_that_takes_too_long_is_ended(gateway: GrpcModelGateway, peer: Peer) -> None:
    answer = await ask(gateway, peer.address, b"hang", within=0.3)
    assert answer.status_code == 4
    async with asyncio.timeout(PATIENCE):
        await peer.cancelled.wait()


async def test_a_version_that_nobody_runs_is_not_reached(gateway: GrpcModelGateway) -> None:
    answer = await ask(gateway, "127.0.0.1:1", b"hello")
    assert (answer.status_code, answer.reached) == (14, False)


async def test_who_stops_waiting_ends_the_call(gateway: GrpcModelGateway, peer: Peer) -> None:
    waiting = asyncio.create_task(ask(gateway, peer.address, b"hang"))
    async with asyncio.timeout(PATIENCE):
        await peer.began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await peer.cancelled.wait()


async def test_closing_ends_the_calls_under_way(peer: Peer) -> None:
    gateway = GrpcModelGateway(max_message_bytes=1 << 20)
    waiting = asyncio.create_task(ask(gateway, peer.address, b"hang"))
    async with asyncio.timeout(PATIENCE):
        await peer.began.wait()
        await gateway.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await peer.cancelled.wait()
