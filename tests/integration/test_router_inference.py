"""What callers of the Open Inference Protocol get from a router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import nats
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import routers
from inference_servers import MODEL_INFER, SERVICE, InferenceServer, a_version, asking, logits, register_oip, serving
from multishadow.oip.v2 import inference_pb2 as oip
from multishadow_server.core.model import Version
from multishadow_server.core.routing import Claim
from routers import Caller, Logged, register, saying, trailing_of, version
from waiting import PATIENCE


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def logged(nats_url: str, log_name: str, stack: AsyncExitStack) -> Logged:
    client = await nats.connect(nats_url)
    stack.push_async_callback(client.close)
    return Logged(client, log_name)


@pytest.fixture
async def live(stack: AsyncExitStack) -> InferenceServer:
    return await stack.enter_async_context(serving(lambda _: logits(0.1, 0.2, 0.7), name="spam-v2"))


async def ask(caller: Caller, method: str, body: bytes) -> tuple[bytes, dict[str, str | bytes]]:
    callable_: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = caller.channel.unary_unary(f"/{SERVICE}/{method}")
    call = callable_(body, timeout=PATIENCE)
    response = await call
    return response, {str(key): value for key, value in await call.trailing_metadata() or ()}


async def refusal(caller: Caller, method: str, body: bytes) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(caller, method, body)
    return refused.value


def a_parameter(value: str | float | bool) -> oip.InferParameter:
    kinds = {str: "string_param", bool: "bool_param", int: "int64_param", float: "double_param"}
    return oip.InferParameter(**{kinds[type(value)]: value})  # type: ignore[arg-type]  # one field by its name


async def test_the_live_versions_answer_is_passed_on_and_captured(
    database_url: str, nats_url: str, log_name: str, live: InferenceServer, logged: Logged
) -> None:
    await register_oip(database_url, a_version("base", live), a_version("A", live, 1))
    said: dict[str, Any] = {"session_id": "s-1", "plan": "pro", "age": 7, "score": 0.5, "beta": True}
    request = asking(id="r-1", parameters={name: a_parameter(value) for name, value in said.items()})
    async with routers.router(database_url, nats_url, log_name) as caller:
        body = request.SerializeToString()
        response, trailing = await ask(caller, "ModelInfer", body)
    expected = replace_names(logits(0.1, 0.2, 0.7), "spam-v2", "r-1")
    assert response == expected.SerializeToString()
    assert (trailing["x-multishadow-version"], trailing["x-multishadow-request-id"]) == ("base", "r-1")
    # Its server was asked by the name that it has there, and about nothing else.
    request.model_name = "spam-v2"
    assert live.requests == [request]
    (capture,) = await logged.captures(1)
    assert (capture.method, capture.model, capture.request_id, capture.session_id) == (
        MODEL_INFER, "spam", "r-1", "s-1",
    )  # fmt: skip
    assert capture.attributes == {"plan": "pro", "age": 7.0, "score": 0.5, "beta": True}
    assert (capture.request, capture.response) == (body, response)
    assert len(capture.fingerprint) == 8


def replace_names(response: oip.ModelInferResponse, name: str, request_id: str) -> oip.ModelInferResponse:
    response.model_name, response.id = name, request_id
    return response


async def test_a_sequence_is_a_session_and_a_request_without_an_id_gets_one(
    database_url: str, nats_url: str, log_name: str, live: InferenceServer, logged: Logged
) -> None:
    await register_oip(database_url, a_version("base", live), a_version("A", live, 1))
    async with routers.router(database_url, nats_url, log_name) as caller:
        sequences: list[dict[str, Any]] = [
            {"sequence_id": 42},
            {"sequence_id": 0},
            {"sequence_id": 7, "session_id": "s"},
        ]
        for said in sequences:
            request = asking(parameters={name: a_parameter(value) for name, value in said.items()})
            _, trailing = await ask(caller, "ModelInfer", request.SerializeToString())
            assert len(str(trailing["x-multishadow-request-id"])) == 36
    captured = await logged.captures(3)
    assert {capture.session_id for capture in captured} == {"42", "", "s"}
    assert [capture.attributes for capture in captured] == [{}] * 3


async def test_the_server_speaks_for_itself_and_the_live_version_for_the_model(
    database_url: str, nats_url: str, log_name: str, live: InferenceServer
) -> None:
    await register_oip(database_url, a_version("base", live), a_version("A", live, 1))
    name = oip.ModelMetadataRequest(name="spam").SerializeToString()
    async with routers.router(database_url, nats_url, log_name) as caller:
        said = [
            (await ask(caller, method, name if method.startswith("Model") else b""))[0]
            for method in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata")
        ]
        health = health_pb2_grpc.HealthStub(caller.channel)
        healthy = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert oip.ServerLiveResponse.FromString(said[0]).live
    assert oip.ServerReadyResponse.FromString(said[1]).ready
    assert oip.ServerMetadataResponse.FromString(said[2]).name == "multishadow"
    assert oip.ModelReadyResponse.FromString(said[3]).ready
    assert oip.ModelMetadataResponse.FromString(said[4]).versions == ["7"]
    assert healthy.status == health_pb2.HealthCheckResponse.SERVING


async def test_what_cannot_be_answered_says_what_to_do(
    database_url: str, nats_url: str, log_name: str, live: InferenceServer
) -> None:
    await register_oip(database_url, a_version("base", live))
    infinite = asking(parameters={"score": a_parameter(float("inf"))}).SerializeToString()
    nobody = oip.ModelReadyRequest(name="ham").SerializeToString()
    async with routers.router(database_url, nats_url, log_name, max_message_bytes=4096) as caller:
        refused = [
            await refusal(caller, "ModelInfer", body)
            for body in (b"\xff", asking("ham").SerializeToString(), asking("").SerializeToString(), infinite,
                         asking(id="x" * 300).SerializeToString(), b"\x00" * 5_000)
        ]  # fmt: skip
        refused += [await refusal(caller, "ModelReady", body) for body in (b"\xff", nobody)]
        wrong_door = await caller.status(routers.a_request())
        streaming: Any = caller.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        stream = streaming(iter([b""]), timeout=PATIENCE)
        unknown = await refusal(caller, "RepositoryIndex", b"")
        with pytest.raises(grpc.aio.AioRpcError) as not_offered:
            await stream.read()
    said = [(error.code().name, error.details() or "") for error in refused]
    assert [code for code, _ in said] == [
        "INVALID_ARGUMENT", "NOT_FOUND", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "NOT_FOUND",
    ]  # fmt: skip
    assert "no inference.ModelInferRequest" in said[0][1]
    assert said[1][1] == 'there is no model "ham"; models: spam'
    assert "set its field `model_name`" in said[2][1]
    assert "parameters: 'score' must be finite" in said[3][1]
    assert "id has 300 characters" in said[4][1]
    assert "no inference.ModelReadyRequest" in said[6][1]
    assert wrong_door.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "call inference.GRPCInferenceService/ModelInfer" in (wrong_door.details() or "")
    assert unknown.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Ask ModelInfer; text that comes token by token is streamed by multishadow" in str(
        not_offered.value.details()
    )
    assert live.requests == []


async def test_a_model_of_the_other_protocol_is_refused_and_an_unreachable_one_explained(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    ours = await stack.enter_async_context(version(saying(b"")))
    await register(database_url, {"base": ours.address}, {"base": Claim.LIVE}, model="text")
    await register_oip(database_url, Version(model="spam", name="base", address="127.0.0.1:1"))
    async with routers.router(database_url, nats_url, log_name) as caller:
        wrong_door = await refusal(caller, "ModelInfer", asking("text").SerializeToString())
        away = await refusal(caller, "ModelReady", oip.ModelReadyRequest(name="spam").SerializeToString())
    assert wrong_door.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "`protocol: multishadow`: call multishadow.v1.PredictionService/Predict" in (wrong_door.details() or "")
    assert away.code() is grpc.StatusCode.UNAVAILABLE
    assert 'the live version "spam.base" at 127.0.0.1:1 cannot be reached' in (away.details() or "")
    assert trailing_of(away)["x-multishadow-version"] == "base"


async def test_reflection_describes_the_service_by_the_protocols_own_names(
    database_url: str, nats_url: str, log_name: str, live: InferenceServer
) -> None:
    await register_oip(database_url, a_version("base", live))

    def described(address: str) -> list[str]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert SERVICE in database.get_services()
            found = DescriptorPool(database).FindServiceByName(SERVICE)
            # The other service is described as before.
            DescriptorPool(database).FindServiceByName("multishadow.v1.PredictionService")
            return [method.input_type.full_name for method in found.methods]

    async with routers.router(database_url, nats_url, log_name) as caller:
        assert "inference.ModelInferRequest" in await asyncio.to_thread(described, caller.address)
