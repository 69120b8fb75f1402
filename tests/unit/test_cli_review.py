"""What shadowctl shows of stored comparisons."""

from __future__ import annotations

import base64
import json
import math
import struct

import pytest
from rich.console import Console

from multishadow.oip.v2 import inference_pb2 as oip
from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import prediction_pb2
from multishadow_client.cli import review_view

ID = "071119eb-63d1-42b5-adb7-2197aab39cd4"
WHAT = "live said 'plain', shadow said 'rule'"


def shown(width: int, *lines: pb.ComparisonLine) -> str:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(review_view.lines(lines))
    return captured.get()


def line(request_id: str = ID) -> pb.ComparisonLine:
    return pb.ComparisonLine(
        id=1234, version="A", similarity=0.5, request_id=request_id, verdict=pb.REVIEW_VERDICT_CANDIDATE_BETTER,
        detail=WHAT,
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_id_of_a_request_can_be_copied_however_narrow_it_is(width: int) -> None:
    said = shown(width, line())
    assert ID in said
    assert "similarity" in said
    assert max(map(len, said.splitlines())) <= width
    assert WHAT.split() == [word for word in said.split() if word in WHAT.split()]


@pytest.mark.parametrize("width", [80, 160])
def test_an_id_that_is_longer_than_a_line_leaves_room_for_the_rest(width: int) -> None:
    said = shown(width, line("order-" * 40))
    assert "0.5000" in said
    assert max(map(len, said.splitlines())) <= width


def test_where_nothing_is_stored_that_is_said() -> None:
    assert shown(80) == "no stored comparison of this kind yet\n"


def beside(payloads: str, request: bytes, response: bytes) -> str:
    found = pb.GetComparisonResponse(
        id=1,
        model="spam",
        live_version="base",
        payloads=payloads,
        request=request,
        live_response=response,
        answers=[pb.CandidateAnswer(version="A", outcome="diverged", similarity=0.25, response=response)],
    )
    console = Console(width=200, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(review_view.side_by_side(found, ""))
    return captured.get() + str(review_view.plain(found))


def test_a_payload_that_is_not_stored_says_so_and_the_rest_is_shown() -> None:
    said = beside("none", b"", b"")
    assert said.count("payload not stored (privacy: none)") == 3
    assert "diverged · similarity 0.2500" in said
    assert "'request': None" in said


@pytest.mark.parametrize("payloads", ["hashed", "redacted"])
def test_a_payload_that_is_a_hash_is_shown_as_one(payloads: str) -> None:
    seal = b"hmac-sha256:" + b"0" * 64
    said = beside(payloads, seal, seal)
    assert said.count(f"payload not stored (privacy: {payloads})") == 3
    assert f"request  payload not stored (privacy: {payloads}); {seal.decode()}" in said
    assert "'live_response': {'hash': 'hmac-sha256:000" in said


def test_a_redacted_payload_is_shown_as_it_is_stored() -> None:
    said = beside("redacted", prediction_pb2.PredictRequest(text="to [email]").SerializeToString(), b"")
    assert "request  to [email]" in said
    assert "(diverged)" in said


def stored(request: bytes, *answers: bytes, protocol: str = "oip") -> pb.GetComparisonResponse:
    live, *others = answers
    return pb.GetComparisonResponse(
        id=7,
        model="iris",
        request_id="r-1",
        request=request,
        live_version="base",
        live_response=live,
        answers=[pb.CandidateAnswer(version="A", outcome="ok", response=other) for other in others],
        protocol=protocol,
    )


def an_answer(raw: bytes, datatype: str = "FP32", shape: int = 1) -> bytes:
    tensor = oip.ModelInferResponse.InferOutputTensor(name="out", datatype=datatype, shape=[shape])
    return oip.ModelInferResponse(model_name="iris-a", outputs=[tensor], raw_output_contents=[raw]).SerializeToString()


def test_answers_of_the_open_inference_protocol_are_shown_with_their_elements() -> None:
    given = oip.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP64", shape=[2], contents=oip.InferTensorContents(fp64_contents=[1.5, math.nan])
    )
    asked = oip.ModelInferRequest(model_name="iris", inputs=[given]).SerializeToString()
    found = stored(asked, an_answer(struct.pack("<f", 0.5)), an_answer(struct.pack("<I", 3) + b"yes", "BYTES"))
    said = review_view.plain(found)
    assert said["request"] == {
        "model_name": "iris",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.5, "nan"]}],
    }
    output = {"name": "out", "shape": [1]}
    assert said["live_response"]["outputs"] == [{**output, "datatype": "FP32", "data": [0.5]}]
    assert said["answers"][0]["response"]["outputs"] == [{**output, "datatype": "BYTES", "data": ["yes"]}]
    json.dumps(said, allow_nan=False)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(review_view.side_by_side(found, ""))
    assert '"data": [' in captured.get()


@pytest.mark.parametrize(
    ("raw", "datatype", "data"),
    [
        (struct.pack("<ee", 0.5, 2), "FP16", [0.5, 2.0]),
        (b"\x00\x3f\xc0\x7f", "BF16", [0.5, "nan"]),
        (b"\x01\x00", "BOOL", [True, False]),
        (struct.pack("<I", 1) + b"\xff", "BYTES", [{"base64": "/w=="}]),
    ],
)
def test_elements_are_shown_by_their_data_type(raw: bytes, datatype: str, data: list[object]) -> None:
    (shown_,) = review_view.plain(stored(b"", an_answer(raw, datatype)))["live_response"]["outputs"]
    assert shown_["data"] == data


@pytest.mark.parametrize(("raw", "datatype"), [(b"1", "FP32"), (b"\x09\0\0\0a", "BYTES"), (b"a", "BYTES"), (b"", "X")])
def test_a_tensor_that_is_not_what_it_says_is_shown_as_bytes(raw: bytes, datatype: str) -> None:
    (shown_,) = review_view.plain(stored(b"", an_answer(raw, datatype)))["live_response"]["outputs"]
    assert shown_["unreadable"] == base64.b64encode(raw).decode()


def test_bytes_that_are_no_message_are_shown_as_bytes_in_every_protocol() -> None:
    for protocol in ("oip", "multishadow", ""):
        assert review_view.plain(stored(b"\xff", b"", protocol=protocol))["request"] == {"unreadable": "/w=="}
