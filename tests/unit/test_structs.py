"""JSON objects as the bytes of a Struct: read as they were written, when somebody looks, and refused in time."""

from __future__ import annotations

import math
import struct

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from bad_input import deep
from multishadow.v1 import capture_pb2, envelope_pb2, export_pb2, prediction_pb2
from multishadow_server.adapters import capture_codec
from multishadow_server.core.capture import Capture, CaptureBatch
from multishadow_server.core.prediction import Json
from multishadow_server.errors import InvalidInput
from multishadow_server.structs import MOST_LEVELS, encoded, fill, json_of, unread

SCALARS = st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text())
OBJECTS = st.dictionaries(
    st.text(), st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
)
WRONG_NUMBERS = (math.inf, -math.inf, math.nan, struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf4\x7f")[0])


@given(OBJECTS)
def test_an_object_is_read_as_it_was_written(values: dict[str, Json]) -> None:
    found = unread(encoded(values))
    assert found == values
    assert bool(found) == bool(values)
    assert len(found) == len(values)
    assert all(name in found for name in values)
    assert "not there" not in found
    assert encoded(found) == found.encoded


def test_a_name_that_is_only_a_value_is_no_name() -> None:
    found = unread(encoded({"colour": "size", "deep": {"size": 1}}))
    assert "size" not in found
    assert found.get("size") is None


@pytest.mark.parametrize("number", WRONG_NUMBERS)
def test_numbers_that_json_does_not_know_are_refused_wherever_they_stand(number: float) -> None:
    wrongs: list[Json] = [number, [1.0, number], {"n": [{"n": number}]}]
    besides: list[dict[str, Json]] = [{}, {"a": "text"}, {"x": -1.0, "y": {"z": None}}]
    for wrong in wrongs:
        for beside in besides:
            with pytest.raises(InvalidInput, match="numbers must be finite"):
                unread(encoded({**beside, "wrong": wrong}))


def test_the_largest_number_is_finite() -> None:
    values: dict[str, Json] = {"largest": 1.7976931348623157e308, "smallest": -1.7976931348623157e308, "tiny": 5e-324}
    assert unread(encoded(values)) == values


@pytest.mark.parametrize("by", ["objects", "lists"])
def test_the_deepest_object_can_be_passed_on_inside_other_messages(by: str) -> None:
    deepest = deep(MOST_LEVELS, by=by)
    found = unread(encoded(deepest))
    assert found == deepest
    # As clients are told of a stored answer: inside a list, inside an answer.
    told = export_pb2.ListAnswersResponse()
    fill(told.answers.add().attributes, found)
    assert export_pb2.ListAnswersResponse.FromString(told.SerializeToString()) == told


@pytest.mark.parametrize("leaf", [None, True, 1.0, "", "dee", "deep", "d" * 200, {}, []], ids=repr)
@pytest.mark.parametrize("by", ["objects", "lists"])
def test_one_level_more_is_refused_whatever_lies_at_its_bottom(by: str, leaf: Json) -> None:
    levels = MOST_LEVELS - isinstance(leaf, dict | list)
    assert unread(encoded(deep(levels, by=by, leaf=leaf))) == deep(levels, by=by, leaf=leaf)
    with pytest.raises(InvalidInput, match=f"at most {MOST_LEVELS} levels"):
        unread(encoded(deep(levels + 1, by=by, leaf=leaf)))


def test_nothing_hides_behind_a_tag_that_is_longer_than_it_need_be() -> None:
    # A parser reads 91 00 as 11, a number, and aa 00 as 2a, an object.
    with pytest.raises(InvalidInput, match="numbers must be finite"):
        unread(_entry(b"\x91\x00" + struct.pack("<d", math.inf)))
    content = b""
    for _ in range(MOST_LEVELS):
        content = b"\xaa\x00" + _sized(_entry(content))
    with pytest.raises(InvalidInput, match=f"at most {MOST_LEVELS} levels"):
        unread(_entry(content))


def _entry(value: bytes) -> bytes:
    """A Struct with one field."""
    return b"\x0a" + _sized(b"\x0a\x01n\x12" + _sized(value))


def _sized(content: bytes) -> bytes:
    size = len(content)
    return (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + content


def test_many_levels_beside_each_other_are_not_deep() -> None:
    wide: dict[str, Json] = {str(n): {"a": [n, [n]]} for n in range(100)}
    assert unread(encoded(wide)) == wide


@given(st.binary(max_size=200))
def test_bytes_that_are_no_object_are_refused_at_once(data: bytes) -> None:
    try:
        Struct.FromString(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            unread(data)


def test_attributes_in_pieces_are_those_of_the_message_that_a_parser_makes_of_them() -> None:
    first, second = encoded({"plan": "pro", "a": 1.0}), encoded({"plan": "free", "b": 2.0})
    whole = prediction_pb2.PredictRequest.FromString(b"".join(b"\x22" + _sized(piece) for piece in (first, second)))
    pieces = envelope_pb2.PredictEnvelope(attributes=[first, second])
    assert unread(b"".join(pieces.attributes)) == json_of(whole.attributes) == {"plan": "free", "a": 1.0, "b": 2.0}


def test_attributes_are_written_down_as_they_are_held() -> None:
    held = unread(encoded({"plan": "pro"}))
    capture = Capture(
        request_id="r", session_id="", model="spam", method="/m", attributes=held, request=b"", metadata=(),
        live="base", shadows=("A",), revision=1, response=b"", status_code=0, status_message="", live_latency=0.25,
        received_at=1.5,
    )  # fmt: skip
    data = capture_codec.encode(CaptureBatch(router="r", captures=[capture]))
    assert capture_pb2.CaptureBatch.FromString(data).captures[0].attributes == held.encoded
    assert capture_codec.decode(data).captures[0] == capture


def test_what_an_earlier_router_took_is_read() -> None:
    taken = deep(MOST_LEVELS + 4)
    batch = capture_pb2.CaptureBatch(captures=[capture_pb2.Capture(attributes=encoded(taken))])
    assert capture_codec.decode(batch.SerializeToString()).captures[0].attributes == taken


@pytest.mark.parametrize("data", [b"\x0a\x05", encoded({"n": math.inf})], ids=["no object", "infinite"])
def test_a_batch_with_attributes_that_nobody_could_read_later_is_none(data: bytes) -> None:
    batch = capture_pb2.CaptureBatch(captures=[capture_pb2.Capture(attributes=data)])
    with pytest.raises((DecodeError, InvalidInput)):
        capture_codec.decode(batch.SerializeToString())
