"""What callers get from a router, whatever happens behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import grpc.aio
import nats
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import routers
from multishadow.v1 import prediction_pb2
from multishadow_server.core import flags
from multishadow_server.core.routing import Claim
from routers import Logged, a_request, refusing, register, saying, trailing_of, version
from waiting import PATIENCE, until

# Not what a serializer writes: fields out of order, one unknown, a varint longer than it needs to be.
ODD = bytes.fromhex("fa07026869") + b"\x7a\x03abc" + bytes.fromhex("988080800000")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def logged(nats_url: str, log_name: str, stack: AsyncExitStack) -> Logged:
    client = await nats.connect(nats_url)
    stack.push_async_callback(client.close)
    return Logged(client, log_name)


async def test_the_answer_is_the_live_versions_byte_for_byte(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    live = await stack.enter_async_context(version(saying(ODD)))
    revision = await register(
        database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW}
    )
    body = a_request(request_id="r-1", session_id="s-1", attributes={"plan": "pro", "age": 7}) + ODD
    async with routers.router(database_url, nats_url, log_name) as caller:
        reply = await caller.predict(body, metadata=(("x-plan", "pro"), ("x-raw-bin", b"\x00\xff")))
    assert reply.response == ODD
    assert live.bodies == [body]
    assert live.metadata[0]["x-plan"] == "pro"
    assert live.metadata[0]["x-raw-bin"] == b"\x00\xff"
    assert reply.trailing["x-multishadow-request-id"] == "r-1"
    assert reply.trailing["x-multishadow-version"] == "base"
    assert reply.trailing["x-multishadow-revision"] == str(revision)
    (capture,) = await logged.captures(1)
    assert (capture.request, capture.response, capture.status_code) == (body, ODD, 0)
    assert (capture.live, capture.shadows, capture.revision) == ("base", ("A",), revision)
    assert (capture.request_id, capture.session_id, capture.method) == ("r-1", "s-1", routers.PREDICT)
    assert capture.attributes == {"plan": "pro", "age": 7}
    assert ("x-raw-bin", b"\x00\xff") in capture.metadata
    assert 0 < capture.live_latency < 5


async def test_a_burst_is_answered_however_many_calls_wait_to_be_taken_up(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    """More than gRPC's own limit of calls in waiting, from which on it ends some as CANCELLED."""
    live = await stack.enter_async_context(version(saying(b"")))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        await asyncio.gather(*(caller.predict(a_request()) for _ in range(2_500)))


async def test_a_request_without_an_id_gets_one(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"")))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        first, second = [(await caller.predict(a_request())).trailing for _ in range(2)]
    assert first["x-multishadow-request-id"] != second["x-multishadow-request-id"]
    assert live.metadata[0]["x-multishadow-request-id"] == first["x-multishadow-request-id"]


async def test_a_request_id_that_metadata_cannot_hold_is_encoded(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        reply = await caller.predict(a_request(request_id="запрос\n1"))
    assert reply.response == b"x"
    assert reply.trailing["x-multishadow-request-id"] == "%D0%B7%D0%B0%D0%BF%D1%80%D0%BE%D1%81%0A1"


async def test_live_errors_reach_the_caller_as_they_are(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    details = (("grpc-status-details-bin", b"\x08\x03\x12\x04oops"), ("x-quota", "0"))
    live = await stack.enter_async_context(version(refusing(grpc.StatusCode.ALREADY_EXISTS, "так нельзя", details)))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        error = await caller.status(a_request(request_id="r-1"))
    assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "так нельзя")
    trailing = trailing_of(error)
    assert trailing["grpc-status-details-bin"] == b"\x08\x03\x12\x04oops"
    assert trailing["x-quota"] == "0"
    assert (trailing["x-multishadow-request-id"], trailing["x-multishadow-version"]) == ("r-1", "base")
    (capture,) = await logged.captures(1)
    assert (capture.status_code, capture.status_message, capture.response) == (6, "так нельзя", b"")


async def test_what_the_live_version_says_at_first_and_at_last_reaches_the_caller(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    async def answer(_body: bytes, context: routers.Context) -> bytes:
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"), ("x-multishadow-version", "inner")))
        return b"ok"

    live = await stack.enter_async_context(version(answer))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        reply = await caller.predict(a_request())
    assert reply.initial["x-first"] == "1"
    assert (reply.trailing["x-last"], reply.trailing["x-multishadow-version"]) == ("2", "base")


async def test_the_callers_deadline_is_passed_on(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    live = await stack.enter_async_context(version(routers.hanging()))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        error = await caller.status(a_request(), timeout=1.0)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: live.cancelled == 1)
    assert live.time_remaining[0] is not None
    assert 0 < live.time_remaining[0] <= 1.0
    (capture,) = await logged.captures(1)
    assert capture.status_code == 4


async def test_a_caller_without_a_deadline_gets_the_models(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(routers.hanging()))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE}, default_timeout=0.2)
    async with routers.router(database_url, nats_url, log_name) as caller:
        error = await caller.status(a_request(), timeout=None)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert trailing_of(error)["x-multishadow-version"] == "base"


async def test_a_caller_that_goes_away_ends_the_live_call_and_leaves_no_capture(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    live = await stack.enter_async_context(version(routers.hanging()))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        call = caller.begin(a_request(request_id="gone"))
        await until(lambda: live.bodies)
        call.cancel()
        await until(lambda: live.cancelled == 1)
        live.answering = saying(b"here")
        await caller.predict(a_request(request_id="stays"))
    assert [capture.request_id for capture in await logged.captures(1)] == ["stays"]


async def test_an_older_live_version_answers_when_the_newest_is_unavailable(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    base = await stack.enter_async_context(version(saying(b"old")))
    addresses = {"base": base.address, "A": "127.0.0.1:1", "B": base.address}
    await register(database_url, addresses, {"base": Claim.LIVE, "A": Claim.LIVE, "B": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        reply = await caller.predict(a_request(request_id="r-1"))
    assert (reply.response, reply.trailing["x-multishadow-version"]) == (b"old", "base")
    (capture,) = await logged.captures(1)
    assert (capture.live, capture.shadows) == ("base", ("B",))


async def test_an_error_other_than_unavailable_is_the_answer(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    base = await stack.enter_async_context(version(saying(b"old")))
    newest = await stack.enter_async_context(version(refusing(grpc.StatusCode.INTERNAL, "bug")))
    addresses = {"base": base.address, "A": newest.address}
    await register(database_url, addresses, {"base": Claim.LIVE, "A": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        error = await caller.status(a_request())
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "bug")
    assert base.bodies == []


async def test_an_unreachable_live_version_is_named_with_its_address_and_what_to_do(
    database_url: str, nats_url: str, log_name: str
) -> None:
    await register(database_url, {"base": "127.0.0.1:1"}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        error = await caller.status(a_request())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    details = error.details() or ""
    assert 'the live version "spam.base" at 127.0.0.1:1 cannot be reached' in details
    assert "shadowctl get versions" in details


async def test_a_live_version_that_comes_back_is_called_again_within_seconds(
    database_url: str, nats_url: str, log_name: str
) -> None:
    async with version(saying(b"first")) as live:
        await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
        async with routers.router(database_url, nats_url, log_name) as caller:
            assert (await caller.predict(a_request())).response == b"first"
            await _restarts(live, caller)


async def _restarts(live: routers.RawVersion, caller: routers.Caller) -> None:
    live.answering = refusing(grpc.StatusCode.UNAVAILABLE, "restarting")
    assert (await caller.status(a_request())).details() == "restarting"
    live.answering = saying(b"second")
    assert (await caller.predict(a_request())).response == b"second"


@pytest.mark.parametrize(
    "bad",
    [
        (a_request("sapm"), grpc.StatusCode.NOT_FOUND, 'there is no model "sapm"; models: empty, spam'),
        (a_request(""), grpc.StatusCode.INVALID_ARGUMENT, "names no model; set its field `model`. Models: empty, spam"),
        (a_request("empty"), grpc.StatusCode.FAILED_PRECONDITION, "has no version yet; register one with `shadowctl"),
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "no multishadow.v1.PredictRequest"),
        (b"\x0a\x02\xff\xfe", grpc.StatusCode.INVALID_ARGUMENT, "no multishadow.v1.PredictRequest"),
        (a_request(request_id="r" * 257), grpc.StatusCode.INVALID_ARGUMENT, "request_id has 257 characters"),
        (a_request(attributes={"n": float("nan")}), grpc.StatusCode.INVALID_ARGUMENT, "attributes"),
        (a_request() + bytes(2_000), grpc.StatusCode.RESOURCE_EXHAUSTED, "raise MULTISHADOW_MAX_MESSAGE_BYTES"),
        (a_request() + bytes(5_000), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
    ids=["unknown", "unnamed", "empty", "garbage", "no text", "long id", "not a number", "large", "very large"],
)
async def test_a_bad_request_gets_its_status_and_a_message_that_helps(
    database_url: str, nats_url: str, log_name: str, bad: tuple[bytes, grpc.StatusCode, str]
) -> None:
    body, code, said = bad
    await register(database_url, {"base": "127.0.0.1:1"}, {"base": Claim.LIVE})
    await register(database_url, {}, {}, model="empty")
    async with routers.router(database_url, nats_url, log_name, max_message_bytes=2_000) as caller:
        error = await caller.status(body)
    assert error.code() is code
    assert said in (error.details() or "")


async def test_a_response_over_the_limit_ends_the_call_and_the_router_lives_on(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(bytes(3_000))))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name, max_message_bytes=2_000) as caller:
        assert (await caller.status(a_request())).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        live.answering = saying(bytes(1_000))
        assert (await caller.predict(a_request())).response == bytes(1_000)


async def test_credentials_reach_the_live_version_and_never_the_log(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    secrets = {
        "authorization": "Bearer abc", "cookie": "sid=abc", "x-api-key": "abc", "x-auth-token": "abc",
        "client-secret": "abc", "proxy-authorization": "abc", "x-token-bin": b"abc", "x-forwarded-user": "Bearer abc",
    }  # fmt: skip
    live = await stack.enter_async_context(version(saying(b"")))
    await register(database_url, {"base": live.address, "A": live.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    async with routers.router(database_url, nats_url, log_name) as caller:
        await caller.predict(a_request(), metadata=(*secrets.items(), ("x-tenant", "acme")))
    assert secrets.items() <= live.metadata[0].items()
    (capture,) = await logged.captures(1)
    kept = dict(capture.metadata)
    assert kept["x-tenant"] == "acme"
    assert not secrets.keys() & kept.keys()
    assert not any("abc" in str(value) for value in kept.values())


async def test_sampling_nests_and_is_by_session(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, logged: Logged
) -> None:
    live = await stack.enter_async_context(version(saying(b"")))
    half, fifth = [flags.claim_definition("spam", Claim.SHADOW, percent) for percent in (50, 20)]
    addresses = dict.fromkeys(["base", "A", "B"], live.address)
    await register(database_url, addresses, {"base": Claim.LIVE, "A": half, "B": fifth})
    async with routers.router(database_url, nats_url, log_name) as caller:
        await asyncio.gather(*(caller.predict(a_request(session_id=f"s-{i % 100}")) for i in range(400)))
    captures = await logged.captures(1)
    by_session: dict[str, set[tuple[str, ...]]] = {}
    for capture in captures:
        by_session.setdefault(capture.session_id, set()).add(capture.shadows)
    assert all(len(kinds) == 1 for kinds in by_session.values())
    assert {shadows for kinds in by_session.values() for shadows in kinds} == {("A",), ("B", "A")}
    assert len(captures) == 4 * len(by_session)
    assert 30 <= len(by_session) <= 70


async def test_health_and_reflection_say_what_is_served(database_url: str, nats_url: str, log_name: str) -> None:
    await register(database_url, {"base": "127.0.0.1:1"}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        stub = health_pb2_grpc.HealthStub(caller.channel)
        for service in ("", "multishadow.v1.PredictionService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = await asyncio.to_thread(_reflected, caller.address)
    assert "multishadow.v1.PredictionService" in services


def _reflected(address: str) -> list[str]:
    with grpc.insecure_channel(address) as channel:
        return list(ProtoReflectionDescriptorDatabase(channel).get_services())


async def test_the_typed_api_works_through_the_router(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    response = prediction_pb2.PredictResponse(scalar=0.25)
    live = await stack.enter_async_context(version(saying(response.SerializeToString())))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        reply = await caller.predict(a_request())
    assert prediction_pb2.PredictResponse.FromString(reply.response) == response
