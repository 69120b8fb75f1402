"""Reads requests and responses: protobuf in, the domain's values out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from multishadow.v1 import envelope_pb2, prediction_pb2
from multishadow_server.core import duplicates
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

# A live answer is compared with every shadow's, most of which are the same bytes: so many, so large, are read once.
REMEMBERED = 256
REMEMBERED_BYTES = 4096


class ProtobufPredictionCodec:
    """Decodes `multishadow.v1.PredictResponse`."""

    def decode(self, response: bytes) -> Prediction:
        """Read the bytes; `Unreadable` when they are no response, or a response that sets no output. Never raises.

        What it returns may be shared, and is never written to.
        """
        return _remembered(response) if len(response) <= REMEMBERED_BYTES else _decoded(response)


def _decoded(response: bytes) -> Prediction:
    try:
        message = prediction_pb2.PredictResponse.FromString(response)
    except DecodeError as error:
        # What it says names types of ours and positions, never contents.
        return Unreadable(reason=f"no PredictResponse ({len(response):,} bytes): {error}")
    return _prediction(message)


_remembered = lru_cache(maxsize=REMEMBERED)(_decoded)


def fingerprint(model: str, request: bytes) -> bytes:
    """A PredictRequest's fingerprint: of its input alone, whoever asked with whatever id and attributes.

    Deterministic serialization sorts maps, which the same caller may send in another order each time. Empty when the
    request cannot be read so far: what is wrong within an input is for the live version to judge.
    """
    try:
        content = _plain_input(request) or _sorted_input(request)
    except DecodeError:
        return b""
    return duplicates.fingerprint(model, content)


def _plain_input(request: bytes) -> memoryview | None:
    """The input's own bytes, where nothing in them has an order that could be another one.

    They are what follows the envelope, if that stands first: all libraries write fields in the order of their numbers.
    To read a megabyte of bytes and write it anew takes as long as to take its fingerprint.
    """
    envelope = envelope_pb2.PredictEnvelope.FromString(request)
    envelope.DiscardUnknownFields()
    before = envelope.SerializeToString()
    return (
        memoryview(request)[len(before) :]
        if request.startswith(before) and request[len(before) : len(before) + 1] in _PLAIN
        else None
    )


def _sorted_input(request: bytes) -> bytes:
    message = prediction_pb2.PredictRequest.FromString(request)
    for field in ("model", "request_id", "session_id", "attributes"):
        message.ClearField(field)
    return message.SerializeToString(deterministic=True)


# How a text, a tensor and bytes begin: their fields' numbers, and that a length follows.
_PLAIN = frozenset(
    bytes([prediction_pb2.PredictRequest.DESCRIPTOR.fields_by_name[name].number << 3 | 2])
    for name in ("text", "tensor", "raw")
)


def _prediction(message: prediction_pb2.PredictResponse) -> Prediction:  # noqa: PLR0911  # one per kind of answer
    match message.WhichOneof("output"):
        case "classification":
            return _classification(message.classification)
        case "embedding":
            return Embedding(values=np.array(message.embedding.values, dtype=np.float32))
        case "text":
            return Text(text=message.text)
        case "structured":
            return Structured(value=object_of(message.structured))
        case "scalar":
            return Scalar(value=message.scalar)
        case "raw":
            return Raw(data=message.raw)
    return Unreadable(reason="a PredictResponse that sets no output known here")


def _classification(message: prediction_pb2.Classification) -> Classification:
    return Classification(
        label=message.label,
        confidence=message.confidence if message.HasField("confidence") else None,
        probabilities=dict(message.probabilities),
    )


# Recursion is safe: protobuf refuses messages that nest deeper than 100, which is 33 levels of Struct.
def object_of(message: struct_pb2.Struct) -> dict[str, Json]:
    """A Struct as plain values; numbers are floats, NaN and infinities among them."""
    return {key: _value(value) for key, value in message.fields.items()}


def _value(message: struct_pb2.Value) -> Json:
    match message.WhichOneof("kind"):
        case "number_value":
            return message.number_value
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "struct_value":
            return object_of(message.struct_value)
        case "list_value":
            return [_value(value) for value in message.list_value.values]
    return None
