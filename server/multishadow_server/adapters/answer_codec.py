"""Reads requests and answers of every protocol that versions speak."""

from __future__ import annotations

from multishadow_server.adapters import inference_codec, prediction_codec
from multishadow_server.adapters.prediction_codec import ProtobufPredictionCodec
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Prediction
from multishadow_server.core.protocols import Protocol


class AnswerCodec:
    """A PredictionCodec."""

    def __init__(self) -> None:
        self._multishadow = ProtobufPredictionCodec()

    def decode(self, comparator: Comparator, response: bytes) -> Prediction:
        """Read the bytes of an answer in the comparator's protocol; `Unreadable` when they are none. Never raises."""
        if comparator.protocol is Protocol.OIP:
            return inference_codec.decode(comparator.output, response)
        return self._multishadow.decode(response)


def fingerprint(protocol: Protocol, model: str, request: bytes) -> bytes:
    """A request's fingerprint: equal for requests that ask the same model about the same input; empty without one."""
    if protocol is Protocol.OIP:
        return inference_codec.fingerprint(model, request)
    return prediction_codec.fingerprint(model, request)
