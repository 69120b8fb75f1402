"""Requests and answers as they are stored: read by their protocol, or why there is nothing to read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.json_format import Error, MessageToDict
from google.protobuf.message import DecodeError

from multishadow.v1 import prediction_pb2
from multishadow_client.cli import protocol_view, tensor_view

_Read: TypeAlias = "Callable[[bytes], dict[str, Any]]"
_CONTENTS = ("text", "classification", "embedding", "structured", "tensor", "scalar", "raw")
_SEAL = b"hmac-sha256:"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredMessages:
    """How messages of one stored comparison are read.

    Args:
        protocol: what they are messages of; empty for PredictionService.
        payloads: in which form they are stored, see `Privacy`; empty for as they came.
    """

    protocol: str
    payloads: str

    def shown_request(self, data: bytes) -> str:
        """What a request says, for a person; empty where there was none."""
        return self._shown(self._request, data)

    def shown_response(self, data: bytes) -> str:
        """What an answer says, for a person; empty where there was none."""
        return self._shown(self._response, data)

    def request(self, data: bytes) -> dict[str, Any] | None:
        """A request as plain values; None where nothing is stored."""
        return self._plain(self._request, data)

    def response(self, data: bytes) -> dict[str, Any] | None:
        """An answer as plain values; None where nothing is stored."""
        return self._plain(self._response, data)

    @property
    def _request(self) -> _Read:
        return tensor_view.request if self.protocol == protocol_view.OIP else _message(prediction_pb2.PredictRequest)

    @property
    def _response(self) -> _Read:
        return tensor_view.response if self.protocol == protocol_view.OIP else _message(prediction_pb2.PredictResponse)

    def _shown(self, read: _Read, data: bytes) -> str:
        if self.payloads == "none":
            return "payload not stored (privacy: none)"
        if self._is_sealed(data):
            return f"payload not stored (privacy: {self.payloads}); {data.decode()}"
        return _readable(read, data) if data else ""

    def _plain(self, read: _Read, data: bytes) -> dict[str, Any] | None:
        if self.payloads == "none":
            return None
        return {"hash": data.decode()} if self._is_sealed(data) else _document(read, data)

    def _is_sealed(self, data: bytes) -> bool:
        """Whether it is a payload's hash. What is stored as it came may begin with anything."""
        return self.payloads not in {"", "full"} and data.startswith(_SEAL)


def _message(kind: type[prediction_pb2.PredictRequest | prediction_pb2.PredictResponse]) -> _Read:
    return lambda data: MessageToDict(kind.FromString(data), preserving_proto_field_name=True)


def _readable(read: _Read, data: bytes) -> str:
    """What a message says; text as it is, everything else as JSON."""
    said = _document(read, data)
    inner = next((said[name] for name in _CONTENTS if name in said), said)
    return inner if isinstance(inner, str) else json.dumps(inner, indent=2, ensure_ascii=False)


def _document(read: _Read, data: bytes) -> dict[str, Any]:
    """A message as plain values; bytes that are no message, as base64."""
    try:
        return read(data)
    except (DecodeError, Error, ValueError):  # the latter two: NaN within an object, which JSON does not know
        return {"unreadable": base64.b64encode(data).decode()}
