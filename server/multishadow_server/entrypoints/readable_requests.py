"""Requests that are no messages: the caller's mistake, and answered as that.

gRPC calls what a deserializer raises UNKNOWN, and writes a traceback: anybody could fill the log, and stock clients
repeat a call that failed so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from multishadow_server.entrypoints.answering import answering
from multishadow_server.errors import InvalidInput

# Of four shapes, by whether requests and responses are streams; the library's types tell them apart by position only.
Handler: TypeAlias = Any
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class ReadableRequests(grpc.aio.ServerInterceptor):
    """Ends a call whose request cannot be read with INVALID_ARGUMENT, whatever its service."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's handler, which reads its requests itself."""
        handler = await continuation(handler_call_details)
        read = getattr(handler, "request_deserializer", None)
        if read is None:
            return handler
        answer, make = _PARTS[handler.request_streaming, handler.response_streaming](handler)
        reading = _Reading(answer, read, str(handler_call_details.method))
        behave = _READERS[handler.request_streaming, handler.response_streaming](reading)
        return make(behave, request_deserializer=None, response_serializer=handler.response_serializer)


class _Reading:
    """One method's behaviour, from bytes on."""

    def __init__(self, answer: Any, read: Callable[[bytes], Any], method: str) -> None:  # noqa: ANN401  of four shapes
        self._answer = answer
        self._read = read
        self._method = method

    async def one_to_one(self, body: bytes, context: Context) -> Any:  # noqa: ANN401  the method's response
        async with answering(context):
            message = self._message(body)
        return await self._answer(message, context)

    async def one_to_many(self, body: bytes, context: Context) -> AsyncIterator[Any]:
        async with answering(context):
            message = self._message(body)
        async for response in self._answer(message, context):
            yield response

    async def many_to_one(self, bodies: AsyncIterator[bytes], context: Context) -> Any:  # noqa: ANN401  as above
        return await self._answer(self._messages(bodies), context)

    async def many_to_many(self, bodies: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async for response in self._answer(self._messages(bodies), context):
            yield response

    async def _messages(self, bodies: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Read where the method asks for them, so that what cannot be read is an error of its own `answering`."""
        async for body in bodies:
            yield self._message(body)

    def _message(self, body: bytes) -> Any:  # noqa: ANN401  the method's request
        try:
            return self._read(body)
        except DecodeError as error:
            raise InvalidInput(
                f"the request of {self._method} cannot be read: {error}; generate the client from proto/"
            ) from error


_PARTS: dict[tuple[bool, bool], Callable[[Any], tuple[Any, Any]]] = {
    (False, False): lambda handler: (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
    (False, True): lambda handler: (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
    (True, False): lambda handler: (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
    (True, True): lambda handler: (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
}
_READERS: dict[tuple[bool, bool], Callable[[_Reading], Any]] = {
    (False, False): lambda reading: reading.one_to_one,
    (False, True): lambda reading: reading.one_to_many,
    (True, False): lambda reading: reading.many_to_one,
    (True, True): lambda reading: reading.many_to_many,
}
