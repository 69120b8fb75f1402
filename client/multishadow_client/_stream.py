"""Answers that come piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Self, TypeAlias, cast

import grpc
from grpc import aio

from multishadow.v1 import prediction_pb2
from multishadow_client import _prediction
from multishadow_client._errors import MultishadowError
from multishadow_client._prediction import Output, Prediction

_Call: TypeAlias = "Iterator[prediction_pb2.PredictResponse]"
_AsyncCall: TypeAlias = "aio.UnaryStreamCall[prediction_pb2.PredictRequest, prediction_pb2.PredictResponse]"


class _Pieces:
    """The whole of what came so far: texts joined, of other kinds of output the last."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._last: Output = None

    def add(self, piece: Output) -> Output:
        if isinstance(piece, str):
            self._texts.append(piece)
        if piece is not None:
            self._last = piece
        return piece

    def whole(self) -> Output:
        return "".join(self._texts) if isinstance(self._last, str) else self._last


class PredictionStream(Iterator[Output]):
    """An answer under way: iterate over its pieces; the text of each is what follows the ones before it.

    As a context manager it ends the call when the block is left early. A stream that nobody reads holds the model up.

    Attributes:
        whole: the whole answer with who gave it, once all pieces were read; None before.
    """

    def __init__(self, call: _Call, *, request_id: str, error: Callable[[grpc.RpcError], MultishadowError]) -> None:
        self._call = call
        self._request_id = request_id
        self._error = error
        self._pieces = _Pieces()
        self.whole: Prediction | None = None

    def __next__(self) -> Output:
        try:
            response = next(self._call)
        except StopIteration:
            # The call of a stream is a call, too, which its declared type does not say.
            trailing = _prediction.text_values(cast("grpc.Call", self._call).trailing_metadata())
            self.whole = _whole(self._pieces, trailing, self._request_id)
            raise
        except grpc.RpcError as error:
            raise self._error(error) from error
        return self._pieces.add(_prediction.output(response))

    def cancel(self) -> None:
        """End the call; nothing happens when it has ended."""
        cast("grpc.Call", self._call).cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()


class AsyncPredictionStream(AsyncIterator[Output]):
    """An answer under way, for asyncio; everything as `PredictionStream`."""

    def __init__(
        self, call: _AsyncCall, *, request_id: str, error: Callable[[aio.AioRpcError], MultishadowError]
    ) -> None:
        self._call = call
        self._request_id = request_id
        self._error = error
        self._pieces = _Pieces()
        self.whole: Prediction | None = None

    async def __anext__(self) -> Output:
        try:
            response = await self._call.read()
        except aio.AioRpcError as error:
            raise self._error(error) from error
        if not isinstance(response, prediction_pb2.PredictResponse):
            trailing = _prediction.text_values(await self._call.trailing_metadata())
            self.whole = _whole(self._pieces, trailing, self._request_id)
            raise StopAsyncIteration
        return self._pieces.add(_prediction.output(response))

    def cancel(self) -> None:
        """End the call; nothing happens when it has ended."""
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()


def _whole(pieces: _Pieces, trailing: Mapping[str, str], request_id: str) -> Prediction:
    return _prediction.answered(pieces.whole(), trailing=trailing, request_id=request_id)
