"""Redacts the messages of `multishadow.v1.PredictionService`."""

from __future__ import annotations

import math

from google.protobuf.message import DecodeError

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.prediction_codec import object_of
from multishadow_server.core.redaction import HIDDEN, SEALED, Kind, Redactor, Seal
from multishadow_server.structs import fill

# Other services' messages would be taken for something that they are not.
_SERVICE = "/multishadow.v1.PredictionService/"
PREDICT = f"{_SERVICE}Predict"


class ProtobufPayloadRewriter:
    """A `core.redaction.PayloadRewriter`.

    What stays: numbers of tensors and embeddings, labels of classifications and their probabilities, scalars; unless a
    path names them (`input`, `output`, `output.label`). Raw bytes become their hash.
    """

    def rewritten(self, kind: Kind, method: str, payload: bytes, redactor: Redactor, seal: Seal) -> bytes | None:
        """The payload, redacted; None when it is of another service, or is no message."""
        if not method.startswith(_SERVICE):
            return None
        try:
            if kind is Kind.REQUEST:
                return _request(prediction_pb2.PredictRequest.FromString(payload), redactor, seal)
            return _response(prediction_pb2.PredictResponse.FromString(payload), redactor, seal)
        except DecodeError:
            return None


def _request(message: prediction_pb2.PredictRequest, redactor: Redactor, seal: Seal) -> bytes | None:
    # What a newer caller put there is nothing that any rule could look into.
    message.DiscardUnknownFields()
    message.request_id = _id(redactor, seal, "request_id", message.request_id)
    message.session_id = _id(redactor, seal, "session_id", message.session_id)
    if message.HasField("attributes"):
        attributes = redactor.object(object_of(message.attributes), "attributes")
        message.attributes.Clear()
        fill(message.attributes, attributes)
    match message.WhichOneof("input"):
        case "structured":
            structured = redactor.object(object_of(message.structured), "input")
            message.structured.Clear()
            fill(message.structured, structured)
        case "text":
            message.text = HIDDEN if _hidden(redactor, "input", "text") else redactor.text(message.text)
        case "raw":
            message.raw = seal.of(message.raw)
        case "tensor":
            if _hidden(redactor, "input", "tensor"):
                message.tensor.Clear()
                message.tensor.SetInParent()
    return message.SerializeToString(deterministic=True)


def _response(message: prediction_pb2.PredictResponse, redactor: Redactor, seal: Seal) -> bytes | None:
    message.DiscardUnknownFields()
    kind = message.WhichOneof("output")
    if kind == "structured":
        structured = redactor.object(object_of(message.structured), "output")
        message.structured.Clear()
        fill(message.structured, structured)
    elif kind == "text":
        message.text = HIDDEN if _hidden(redactor, "output", "text") else redactor.text(message.text)
    elif kind == "raw":
        message.raw = seal.of(message.raw)
    elif kind is None:
        # An output of a kind that is not known here went with the unknown fields.
        return None
    elif _hidden(redactor, "output", "label" if kind == "classification" else kind):
        _hide(message)
    return message.SerializeToString(deterministic=True)


def _hide(message: prediction_pb2.PredictResponse) -> None:
    """Take away what has no text to be replaced."""
    match message.WhichOneof("output"):
        case "classification":
            message.classification.label = HIDDEN
            message.classification.probabilities.clear()
        case "embedding":
            message.embedding.Clear()
            message.embedding.SetInParent()
        case "scalar":
            message.scalar = math.nan


def _hidden(redactor: Redactor, root: str, field: str) -> bool:
    return redactor.hides(root) or redactor.hides(root, field)


def _id(redactor: Redactor, seal: Seal, name: str, value: str) -> str:
    hidden = value and not value.startswith(SEALED) and (redactor.hides(name) or redactor.text(value) != value)
    return seal.text(value) if hidden else value
