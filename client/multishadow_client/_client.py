"""The client for threads: predictions through the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from multishadow.v1 import (
    prediction_pb2_grpc,
)
from multishadow_client import _address, _prediction
from multishadow_client._connection import Connection
from multishadow_client._prediction import Prediction
from multishadow_client._stream import PredictionStream
from multishadow_client._tls import Tls


class Client(Connection):
    """Asks models, through the router. Safe to share between threads; make one and keep it.

    Args:
        address: of the router; a scheme may stand before it.
        timeout: seconds that a call may take unless it says otherwise; None leaves it to the router.
        tls: connect over TLS.

    Example:
        >>> with Client("127.0.0.1:50051") as client:
        ...     prediction = client.predict("spam", text="You have won", session_id="user-17")
        >>> prediction.output.label, prediction.version
        ('spam', 'A')
    """

    def __init__(self, address: str = _address.ROUTER, *, timeout: float | None = 10.0, tls: Tls | None = None) -> None:
        super().__init__(address, default=_address.ROUTER, timeout=timeout, tls=tls)
        self._stub = prediction_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(
        self,
        model: str,
        *,
        text: str | None = None,
        tensor: object = None,
        structured: Mapping[str, Any] | None = None,
        raw: bytes | None = None,
        session_id: str = "",
        request_id: str = "",
        attributes: Mapping[str, Any] | None = None,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        timeout: float | None = None,
    ) -> Prediction:
        """Ask a model; exactly one of `text`, `tensor`, `structured`, `raw` is its input.

        Args:
            model: the model's name.
            text: a text.
            tensor: an array of numbers: anything with the buffer protocol (numpy, array), with `tolist()` (torch), or
                nested sequences; sent as 32-bit floats with its shape.
            structured: a JSON-like mapping; its numbers are 64-bit floats on the wire.
            raw: bytes.
            session_id: requests of one session are shadowed together or not at all.
            request_id: your id of this request; the router makes one when it is empty.
            attributes: JSON-like values that targeting rules read and reports are cut by.
            metadata: further gRPC metadata, e.g. `authorization`.
            timeout: seconds; None takes the client's.

        Raises:
            MultishadowError: see the error tree; with the server's message.
            TypeError: not exactly one input, or one of no kind that can be sent.
            ValueError: a tensor whose rows differ in length.
        """
        request = _prediction.request(
            model,
            text=text,
            tensor=tensor,
            structured=structured,
            raw=raw,
            session_id=session_id,
            request_id=request_id,
            attributes=attributes,
        )
        limit = self._timeout if timeout is None else timeout
        try:
            response, call = self._stub.Predict.with_call(request, timeout=limit, metadata=tuple(metadata))
        except grpc.RpcError as error:
            raise self._error(error) from error
        trailing = _prediction.text_values(call.trailing_metadata())
        return _prediction.prediction(response, trailing=trailing, request_id=request_id)

    def predict_stream(
        self,
        model: str,
        *,
        text: str | None = None,
        tensor: object = None,
        structured: Mapping[str, Any] | None = None,
        raw: bytes | None = None,
        session_id: str = "",
        request_id: str = "",
        attributes: Mapping[str, Any] | None = None,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        timeout: float | None = None,
    ) -> PredictionStream:
        """Ask a model that answers piece by piece; everything as in `predict`. The time limit is the whole stream's.

        Errors are raised by the stream, when it comes to them: `for piece in client.predict_stream("chat", text="Hi")`.
        """
        request = _prediction.request(
            model,
            text=text,
            tensor=tensor,
            structured=structured,
            raw=raw,
            session_id=session_id,
            request_id=request_id,
            attributes=attributes,
        )
        limit = self._timeout if timeout is None else timeout
        call = self._stub.PredictStream(request, timeout=limit, metadata=tuple(metadata))
        return PredictionStream(call, request_id=request_id, error=self._error)
