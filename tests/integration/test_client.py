from __future__ import annotations

import asyncio
import math
import threading
from array import array
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest

from canned_router import Answer, Router, serving
from multishadow.v1 import prediction_pb2
from multishadow.v1.prediction_pb2 import PredictRequest, PredictResponse
from multishadow_client import (
    AsyncClient,
    Classification,
    Client,
    Conflict,
    ControlClient,
    DeadlineExpired,
    Embedding,
    FailedPrecondition,
    InvalidInput,
    MultishadowError,
    NotAllowed,
    NotFound,
    NotSpoken,
    ResourceExhausted,
    ServerFailed,
    Unavailable,
    Unreachable,
)
from multishadow_client._address import Address
from waiting import PATIENCE


@pytest.fixture
def router() -> Iterator[Router]:
    with serving(Router()) as running:
        yield running


@pytest.fixture
def client(router: Router) -> Iterator[Client]:
    with Client(router.address) as connected:
        yield connected


def failing(code: grpc.StatusCode, message: str) -> Answer:
    def answer(_request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        context.abort(code, message)
        raise AssertionError("abort raises")

    return answer


def test_an_answer_says_who_gave_it_and_by_which_revision(client: Client, router: Router) -> None:
    prediction = client.predict(
        "spam", text="win", session_id="s1", attributes={"country": "TH", "tags": ["a", 1, None]}, metadata=[("k", "v")]
    )
    assert prediction.output == "WIN"
    assert (prediction.version, prediction.request_id, prediction.revision) == ("A", "made-by-the-router", 42)
    (request,) = router.requests
    assert (request.model, request.session_id, request.request_id) == ("spam", "s1", "")
    assert dict(request.attributes.items())["country"] == "TH"
    assert router.metadata["k"] == "v"


def test_the_callers_request_id_is_kept(client: Client) -> None:
    assert client.predict("spam", text="x", request_id="mine").request_id == "mine"


@pytest.mark.parametrize(
    ("response", "output"),
    [
        (PredictResponse(text=""), ""),
        (PredictResponse(scalar=0.0), 0.0),
        (PredictResponse(raw=b"\x00"), b"\x00"),
        (PredictResponse(), None),
        (
            PredictResponse(
                classification=prediction_pb2.Classification(label="spam", confidence=0.0, probabilities={"spam": 0.5})
            ),
            Classification(label="spam", confidence=0.0, probabilities={"spam": 0.5}),
        ),
        (
            PredictResponse(classification=prediction_pb2.Classification(label="spam")),
            Classification(label="spam", confidence=None),
        ),
        (
            PredictResponse(embedding=prediction_pb2.Embedding(values=[0.5, -1])),
            Embedding(values=array("f", [0.5, -1])),
        ),
    ],
)
def test_every_kind_of_answer_becomes_a_value(
    client: Client, router: Router, response: PredictResponse, output: object
) -> None:
    router.answer = lambda _request, _context: response
    got = client.predict("m", text="x").output
    assert got == output
    assert type(got) is type(output)


def test_a_structured_answer_becomes_a_dict_even_with_numbers_that_json_lacks(client: Client, router: Router) -> None:
    response = PredictResponse()
    response.structured.update({"a": [1, True, None, {"b": "c"}], "empty": {}})
    response.structured.fields["nan"].number_value = math.nan
    router.answer = lambda _request, _context: response
    output = client.predict("m", text="x").output
    assert isinstance(output, dict)
    assert math.isnan(output.pop("nan"))
    assert output == {"a": [1.0, True, None, {"b": "c"}], "empty": {}}


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        ([1, 2.5, 3], (3,)),
        ([[1, 2.5, 3], (4, 5, 6)], (2, 3)),
        (array("d", [1, 2]), (2,)),
        (array("f", [1, 2]), (2,)),
        (np.arange(12, dtype=np.float32).reshape(2, 3, 2), (2, 3, 2)),
        (np.arange(12, dtype=np.float32).reshape(4, 3).T, (3, 4)),
        (np.arange(6, dtype=np.float64)[::2], (3,)),
        (np.arange(4, dtype=np.float16), (4,)),
        (np.arange(4, dtype=np.uint8).reshape(2, 2), (2, 2)),
        (np.arange(4, dtype=">f4"), (4,)),
        (np.zeros((0,), dtype=np.float32), (0,)),
        ([], (0,)),
    ],
    ids=str,
)
def test_whatever_holds_numbers_is_a_tensor(
    client: Client, router: Router, tensor: object, shape: tuple[int, ...]
) -> None:
    client.predict("m", tensor=tensor)
    sent = router.requests[0].tensor
    assert tuple(sent.shape) == shape
    assert list(sent.values) == np.asarray(tensor, dtype=np.float32).ravel().tolist()


@pytest.mark.parametrize("tensor", [[[1, 2], [3]], [[1], 2], [1, [2]], [[[1]], [[1, 2]]]])
def test_a_ragged_tensor_is_a_mistake(client: Client, tensor: object) -> None:
    with pytest.raises(ValueError, match="rows differ in length"):
        client.predict("m", tensor=tensor)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"text": "a", "raw": b"b"}, {"tensor": 3}, {"tensor": ["a"]}, {"tensor": "12"}, {"structured": {"a": {1}}}],
)
def test_an_input_that_cannot_be_sent_is_a_mistake(client: Client, router: Router, inputs: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        client.predict("m", **inputs)
    assert not router.requests


def test_an_empty_input_is_an_input(client: Client, router: Router) -> None:
    client.predict("m", text="")
    client.predict("m", raw=b"")
    client.predict("m", structured={})
    assert [request.WhichOneof("input") for request in router.requests] == ["text", "raw", "structured"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.ABORTED, Conflict),
        (grpc.StatusCode.PERMISSION_DENIED, NotAllowed),
        (grpc.StatusCode.UNAUTHENTICATED, NotAllowed),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhausted),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExpired),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
    ],
)
async def test_an_error_carries_the_servers_words_and_who_said_them(
    client: Client, router: Router, code: grpc.StatusCode, kind: type[MultishadowError]
) -> None:
    router.answer = failing(code, "there is no model 'x'; there is spam")
    with pytest.raises(kind) as caught:
        await asyncio.to_thread(client.predict, "x", text="hello", request_id="r1")
    async with AsyncClient(router.address) as concurrent:
        with pytest.raises(kind) as caught_async:
            await concurrent.predict("x", text="hello", request_id="r1")
    for error in (caught.value, caught_async.value):
        assert type(error) is kind
        assert str(error) == "there is no model 'x'; there is spam"
        assert (error.code, error.request_id, error.version) == (code, "r1", "A")


def test_an_error_that_nobody_foresaw_names_the_server(client: Client, router: Router) -> None:
    router.answer = failing(grpc.StatusCode.INTERNAL, "boom")
    with pytest.raises(ServerFailed, match=f"{router.address} failed: INTERNAL boom"):
        client.predict("x", text="hello")


def test_where_nothing_answers_the_address_and_the_cause_are_named() -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(Unreachable, match=r"nothing answers at 127\.0\.0\.1:1: .*[Cc]onn"),
    ):
        client.predict("x", text="hello")


def test_the_wrong_port_is_suspected_when_a_call_is_not_known(router: Router) -> None:
    with ControlClient(router.address) as control, pytest.raises(NotSpoken, match="is it the right port"):
        control.status()


def test_a_call_ends_at_its_deadline(client: Client, router: Router) -> None:
    left: list[float] = []

    def wait_for_the_caller_to_give_up(_request: object, context: grpc.ServicerContext) -> PredictResponse:
        left.append(context.time_remaining())
        gone = futures.Future[None]()
        if context.add_callback(lambda: gone.set_result(None)):
            gone.result(PATIENCE)
        return PredictResponse()

    router.answer = wait_for_the_caller_to_give_up
    with pytest.raises(DeadlineExpired, match=f"no answer from {router.address} in time"):
        client.predict("m", text="x", timeout=0.2)
    # Of a call that was already over when it was taken up, the server never heard.
    assert all(seconds < 0.3 for seconds in left)


def test_an_answer_larger_than_grpcs_default_is_received(client: Client, router: Router) -> None:
    router.answer = lambda request, _context: PredictResponse(raw=request.raw)
    data = bytes(6 << 20)
    assert client.predict("m", raw=data).output == data


async def test_the_asyncio_client_answers_many_at_once(router: Router) -> None:
    async with AsyncClient(f"http://{router.address}/") as client:
        predictions = await asyncio.gather(*(client.predict("m", text=f"t{number}") for number in range(20)))
    assert [prediction.output for prediction in predictions] == [f"T{number}" for number in range(20)]
    assert {(prediction.version, prediction.revision) for prediction in predictions} == {("A", 42)}


@pytest.mark.parametrize(
    ("typed", "target", "encrypted"),
    [
        ("example:1", "example:1", False),
        ("example", "example:50051", False),
        ("", "127.0.0.1:50051", False),
        ("http://example:1/", "example:1", False),
        ("https://example", "example:50051", True),
        ("grpcs://example:1", "example:1", True),
        ("[::1]", "[::1]:50051", False),
        ("[::1]:7", "[::1]:7", False),
        ("unix:/run/router.sock", "unix:/run/router.sock", False),
        ("dns:///example:1", "dns:///example:1", False),
    ],
)
def test_an_address_is_understood_as_people_type_it(typed: str, target: str, encrypted: bool) -> None:
    assert Address.parse(typed, default="127.0.0.1:50051") == Address(target=target, encrypted=encrypted)


def test_a_streamed_answer_comes_piece_by_piece_and_then_says_who_gave_it(client: Client) -> None:
    with client.predict_stream("chat", text="hi!", session_id="s1") as stream:
        assert (next(stream), stream.whole) == ("H", None)
        assert list(stream) == ["I", "!"]
    assert stream.whole is not None
    assert stream.whole.output == "HI!"
    assert (stream.whole.version, stream.whole.request_id, stream.whole.revision) == ("A", "made-by-the-router", 42)


def test_of_a_stream_of_another_kind_the_last_piece_is_the_whole(client: Client, router: Router) -> None:
    router.stream = lambda _request, _context: (PredictResponse(scalar=number) for number in (1.0, 2.0))
    stream = client.predict_stream("m", text="x")
    assert list(stream) == [1.0, 2.0]
    assert stream.whole is not None
    assert stream.whole.output == 2.0


def test_an_error_within_a_stream_is_raised_where_it_comes(client: Client, router: Router) -> None:
    def breaking(_request: PredictRequest, context: grpc.ServicerContext) -> Iterator[PredictResponse]:
        yield PredictResponse(text="so ")
        context.abort(grpc.StatusCode.NOT_FOUND, "no more")

    router.stream = breaking
    stream = client.predict_stream("m", text="x")
    assert next(stream) == "so "
    with pytest.raises(NotFound, match="no more"):
        next(stream)
    assert stream.whole is None


def test_leaving_a_stream_early_ends_the_call(client: Client, router: Router) -> None:
    ended = threading.Event()

    def endless(_request: PredictRequest, context: grpc.ServicerContext) -> Iterator[PredictResponse]:
        context.add_callback(ended.set)
        while context.is_active():
            yield PredictResponse(text="so ")

    router.stream = endless
    with client.predict_stream("m", text="x") as stream:
        assert next(stream) == "so "
    assert ended.wait(PATIENCE)


async def test_the_asyncio_client_streams_too(router: Router) -> None:
    def breaking(request: PredictRequest, context: grpc.ServicerContext) -> Iterator[PredictResponse]:
        yield PredictResponse(text="so ")
        if request.text == "break":
            context.abort(grpc.StatusCode.NOT_FOUND, "no more")

    router.stream = breaking
    async with AsyncClient(router.address) as client:
        async with client.predict_stream("m", text="x", request_id="r1") as stream:
            assert [piece async for piece in stream] == ["so "]
        assert stream.whole is not None
        assert (stream.whole.output, stream.whole.version) == ("so ", "A")
        failing_stream = client.predict_stream("m", text="break")
        assert await anext(failing_stream) == "so "
        with pytest.raises(NotFound, match="no more"):
            await anext(failing_stream)
