"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from grpc import aio

from multishadow.v1 import prediction_pb2_grpc
from multishadow_client import _address, _prediction
from multishadow_client._errors import MultishadowError, from_status
from multishadow_client._prediction import Prediction
from multishadow_client._stream import AsyncPredictionStream
from multishadow_client._tls import Tls


class _AsyncConnection:
    """A channel of the event loop that made it, closed with its owner."""

    def __init__(
        self, address: str, *, default: str, timeout: float | None, tls: Tls | None = None, token: str = ""
    ) -> None:
        self._address = _address.Address.parse(address, default=default, tls=tls, token=token)
        self._timeout = timeout
        self._channel = self._address.open_async()

    async def aclose(self) -> None:
        """Close the connection; calls under way end as cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncClient(_AsyncConnection):
    """Asks models, through the router. One serves any number of concurrent calls in the event loop that made it.

    Args:
        address: of the router; a scheme may stand before it.
        timeout: seconds that a call may take unless it says otherwise; None leaves it to the router.
        tls: connect over TLS.
    """

    def __init__(self, address: str = _address.ROUTER, *, timeout: float | None = 10.0, tls: Tls | None = None) -> None:
        super().__init__(address, default=_address.ROUTER, timeout=timeout, tls=tls)
        self._stub = prediction_pb2_grpc.PredictionServiceStub(self._channel)

    async def predict(
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
        timeout: float | None = None,  # noqa: ASYNC109 -- it travels with the call as its deadline; nothing here waits
    ) -> Prediction:
        """Ask a model; everything as in `Client.predict`. Cancelling the coroutine cancels the call."""
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
        call = self._stub.Predict(request, timeout=limit, metadata=tuple(metadata))
        try:
            response = await call
        except aio.AioRpcError as error:
            raise self._error(error) from error
        trailing = _prediction.text_values(await call.trailing_metadata())
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
    ) -> AsyncPredictionStream:
        """Ask a model that answers piece by piece; everything as in `Client.predict_stream`."""
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
        return AsyncPredictionStream(call, request_id=request_id, error=self._error)

    def _error(self, error: aio.AioRpcError) -> MultishadowError:
        trailing = _prediction.text_values(error.trailing_metadata())
        return from_status(error.code(), error.details() or "", address=self._address.target, trailing=trailing)
