"""Responses as bytes, friendly and hostile."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.prediction_codec import ProtobufPredictionCodec
from multishadow_server.core.prediction import (
    Classification,
    Embedding,
    Json,
    Prediction,
    Raw,
    Scalar,
    Structured,
    Text,
    Unreadable,
)

CODEC = ProtobufPredictionCodec()
MEBIBYTE = 1 << 20


def decode(response: prediction_pb2.PredictResponse) -> Prediction:
    return CODEC.decode(response.SerializeToString())


def structured(value: dict[str, Json]) -> prediction_pb2.PredictResponse:
    response = prediction_pb2.PredictResponse()
    response.structured.SetInParent()
    response.structured.update(value)
    return response


def nested_lists(levels: int) -> bytes:
    """A response whose struct holds lists in lists, written by hand: no protobuf library writes it so deep."""
    value = b"\x11" + bytes(8)
    for _ in range(levels):
        value = _field(0x32, _field(0x0A, value))
    return _field(0x6A, _field(0x0A, _field(0x0A, b"k") + _field(0x12, value)))


def _field(tag: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((tag, *length, rest)) + body


def test_every_kind_of_answer_is_read() -> None:
    classification = prediction_pb2.Classification(
        label="spam", confidence=0.5, probabilities={"spam": 0.5, "ham": 0.5}
    )

    assert decode(prediction_pb2.PredictResponse(classification=classification)) == Classification(
        label="spam", confidence=0.5, probabilities={"spam": 0.5, "ham": 0.5}
    )
    assert decode(prediction_pb2.PredictResponse(text="สวัสดี")) == Text(text="สวัสดี")
    assert decode(prediction_pb2.PredictResponse(scalar=-0.25)) == Scalar(value=-0.25)
    assert decode(prediction_pb2.PredictResponse(raw=b"\x00\xff")) == Raw(data=b"\x00\xff")


def test_an_embedding_becomes_a_vector_of_32_bit_floats() -> None:
    answer = decode(
        prediction_pb2.PredictResponse(embedding=prediction_pb2.Embedding(values=[1.5, math.nan, math.inf]))
    )

    assert isinstance(answer, Embedding)
    assert answer.values.dtype == np.float32
    assert answer.values.shape == (3,)
    np.testing.assert_array_equal(answer.values, np.array([1.5, math.nan, math.inf], dtype=np.float32))


def test_an_empty_embedding_is_a_vector_of_no_dimensions() -> None:
    answer = decode(prediction_pb2.PredictResponse(embedding=prediction_pb2.Embedding()))

    assert isinstance(answer, Embedding)
    assert answer.values.shape == (0,)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
def test_a_structured_answer_keeps_its_fields_and_their_types(value: dict[str, Json]) -> None:
    assert decode(structured(value)) == Structured(value=value)


def test_a_confidence_of_zero_is_not_a_missing_one() -> None:
    zero = prediction_pb2.Classification(label="a", confidence=0.0)
    missing = prediction_pb2.Classification(label="a")

    assert decode(prediction_pb2.PredictResponse(classification=zero)) == Classification(label="a", confidence=0.0)
    assert decode(prediction_pb2.PredictResponse(classification=missing)) == Classification(label="a", confidence=None)


@pytest.mark.parametrize(
    "response", [b"", b"\xf2\x7f\x01x"], ids=["nothing at all", "only a field that is not known here"]
)
def test_a_response_that_sets_no_output_is_unreadable_and_says_so(response: bytes) -> None:
    answer = CODEC.decode(response)

    assert isinstance(answer, Unreadable)
    assert "sets no output" in answer.reason


@pytest.mark.parametrize("response", [b"\xff", b"\x62\x05ab", b"\x62\x02\xff\xfe", b"<html>502 Bad Gateway</html>"])
def test_bytes_that_are_no_response_are_unreadable_and_say_so(response: bytes) -> None:
    answer = CODEC.decode(response)

    assert isinstance(answer, Unreadable)
    assert "no PredictResponse" in answer.reason


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(response: bytes) -> None:
    CODEC.decode(response)


def test_a_response_cut_off_anywhere_never_raises() -> None:
    whole = structured({"a": [1.0, {"b": "text"}], "c": None}).SerializeToString()

    assert isinstance(CODEC.decode(whole), Structured)
    for length in range(1, len(whole)):
        assert isinstance(CODEC.decode(whole[:length]), Unreadable)


@pytest.mark.parametrize("levels", [60, 1_000, 100_000])
def test_deeply_nested_answers_are_refused_and_not_followed(levels: int) -> None:
    assert isinstance(CODEC.decode(nested_lists(levels)), Unreadable)


def test_the_deepest_answer_that_protobuf_reads_is_read() -> None:
    answers = [CODEC.decode(nested_lists(levels)) for levels in range(60)]

    readable = [isinstance(answer, Structured) for answer in answers]
    assert readable == sorted(readable, reverse=True)
    assert sum(readable) > 40


@pytest.mark.parametrize("kind", ["noise", "text", "embedding"])
def test_16_mebibytes_are_read_or_refused(kind: str) -> None:
    match kind:
        case "noise":
            assert isinstance(CODEC.decode(random.Random(1).randbytes(16 * MEBIBYTE)), Unreadable)
        case "text":
            assert isinstance(decode(prediction_pb2.PredictResponse(text="a" * 16 * MEBIBYTE)), Text)
        case _:
            values = np.zeros(4 * MEBIBYTE, dtype=np.float32)
            answer = decode(prediction_pb2.PredictResponse(embedding=prediction_pb2.Embedding(values=values)))
            assert isinstance(answer, Embedding)
            assert answer.values.size == 4 * MEBIBYTE
