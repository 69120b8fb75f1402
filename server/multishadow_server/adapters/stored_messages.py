"""Reads stored requests and answers of every protocol, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from multishadow.oip.v2 import inference_pb2
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters import prediction_codec, tensors
from multishadow_server.adapters.answer_codec import AnswerCodec
from multishadow_server.adapters.tensors import Elements, Malformed, Message
from multishadow_server.core import payload_glance
from multishadow_server.core.model import Comparator
from multishadow_server.core.payload_glance import (
    LONGEST_ELEMENT,
    MOST_ELEMENTS,
    MOST_TENSORS,
    PayloadGlance,
    TensorGlance,
)
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
from multishadow_server.core.protocols import Protocol

_SHOWN_LENGTHS = 8


class ProtobufStoredMessages:
    """A StoredMessages."""

    def __init__(self) -> None:
        self._codec = AnswerCodec()

    def answer(self, comparator: Comparator, response: bytes) -> Prediction:
        """An answer in the comparator's protocol, as it was compared."""
        return self._codec.decode(comparator, response)

    def shown_answer(self, comparator: Comparator, response: bytes) -> PayloadGlance:
        """The same, to look at."""
        return _of_prediction(self.answer(comparator, response), size=len(response))

    def shown_request(self, protocol: Protocol, request: bytes) -> PayloadGlance:
        """What was asked."""
        try:
            if protocol is Protocol.OIP:
                asked = inference_pb2.ModelInferRequest.FromString(request)
                return PayloadGlance(kind="tensors", size=len(request), tensors=list(_oip_inputs(asked)))
            return _of_request(prediction_pb2.PredictRequest.FromString(request), size=len(request))
        except DecodeError as error:
            return PayloadGlance(kind="unreadable", size=len(request), text=f"no request: {error}")

    def tensors(self, protocol: Protocol, response: bytes) -> Sequence[TensorGlance]:
        """All tensors of an answer; none where the protocol has none."""
        if protocol is not Protocol.OIP:
            return ()
        try:
            message = inference_pb2.ModelInferResponse.FromString(response)
        except DecodeError:
            return ()
        return [
            _oip_tensor(each, message.raw_output_contents, place)
            for place, each in enumerate(message.outputs[:MOST_TENSORS])
        ]


def _of_prediction(answer: Prediction, *, size: int) -> PayloadGlance:  # noqa: PLR0911  one return per kind of answer
    match answer:
        case Text():
            return payload_glance.of_text("text", answer.text, size=size)
        case Structured():
            return payload_glance.of_json("structured", dict(answer.value), size=size)
        case Classification():
            ranked = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[:MOST_ELEMENTS]
            said: dict[str, Json] = {"label": answer.label[: payload_glance.MOST_CHARACTERS]}
            said |= {} if answer.confidence is None else {"confidence": answer.confidence}
            said |= {"probabilities": dict(ranked)} if ranked else {}
            return payload_glance.of_json("classification", said, size=size)
        case Embedding():
            shape = f"[{answer.values.size}]"
            tensor = _glance(name="embedding", datatype="FP32", shape=shape, elements=answer.values)
            return PayloadGlance(kind="embedding", size=size, tensors=[tensor])
        case Scalar():
            return PayloadGlance(kind="number", size=size, text=repr(answer.value))
        case Raw():
            return _of_bytes(answer.data, size=size)
        case Unreadable():
            return payload_glance.of_text("unreadable", answer.reason, size=size)


def _of_request(message: prediction_pb2.PredictRequest, *, size: int) -> PayloadGlance:
    match message.WhichOneof("input"):
        case "text":
            return payload_glance.of_text("text", message.text, size=size)
        case "structured":
            return payload_glance.of_json("structured", prediction_codec.object_of(message.structured), size=size)
        case "tensor":
            shape = _lengths(message.tensor.shape)
            tensor = _glance(name="input", datatype="FP32", shape=shape, elements=message.tensor.values)
            return PayloadGlance(kind="tensors", size=size, tensors=[tensor])
        case "raw":
            return _of_bytes(message.raw, size=size)
    return PayloadGlance(kind="unreadable", size=size, text="a request that sets no input known here")


def _of_bytes(data: bytes, *, size: int) -> PayloadGlance:
    shown = data[: payload_glance.MOST_CHARACTERS // 8]
    return PayloadGlance(kind="bytes", size=size, text=shown.hex(" "), cut=len(data) - len(shown))


def _oip_inputs(message: inference_pb2.ModelInferRequest) -> Iterator[TensorGlance]:
    for place, each in enumerate(message.inputs[:MOST_TENSORS]):
        yield _oip_tensor(each, message.raw_input_contents, place)


def _oip_tensor(message: Message, raw: Sequence[bytes], place: int) -> TensorGlance:
    name, datatype, shape = message.name[:LONGEST_ELEMENT], message.datatype[:40], _lengths(message.shape)
    try:
        elements = tensors.elements_of(message, raw[place] if place < len(raw) else None)
    except Malformed as error:
        return TensorGlance(name=name, datatype=datatype, shape=shape, size=0, elements=(), problem=str(error))
    return _glance(name=name, datatype=datatype, shape=shape, elements=elements)


def _glance(*, name: str, datatype: str, shape: str, elements: Elements | Sequence[float]) -> TensorGlance:
    shown = tuple(_word(each) for each in islice(iter(elements), MOST_ELEMENTS))
    return TensorGlance(name=name, datatype=datatype, shape=shape, size=len(elements), elements=shown)


def _word(element: Any) -> str:  # noqa: ANN401  an element of any data type
    if isinstance(element, bytes):
        return element[:LONGEST_ELEMENT].decode(errors="replace")
    return f"{element:.6g}" if isinstance(element, float | np.floating) else str(element)


def _lengths(shape: Sequence[int]) -> str:
    more = ", …" if len(shape) > _SHOWN_LENGTHS else ""
    return f"[{', '.join(map(str, shape[:_SHOWN_LENGTHS]))}{more}]"
