"""Streamed answers of version servers over gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import grpc
import grpc.aio

from multishadow_server.adapters.streamed_answer import StreamedPrediction
from multishadow_server.core.capture import Metadata
from multishadow_server.service import ports

RESOURCE_EXHAUSTED = 8

Call: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, bytes]"
Failure: TypeAlias = "Callable[[grpc.aio.AioRpcError], ports.Answer]"


class GrpcAnswerStream(ports.AnswerStream):
    """One call under way.

    Args:
        call: it.
        failure: what an error of it is as an answer, but for its latencies.
    """

    def __init__(self, call: Call, *, failure: Failure) -> None:
        self._call = call
        self._failure = failure
        self._started = time.monotonic()
        self._first_latency: float | None = None
        self._ended: ports.Answer | None = None

    async def next(self) -> bytes | None:
        """The next message; see ports.AnswerStream."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            self._end(self._failure(error))
            return None
        if isinstance(message, bytes):
            if self._first_latency is None:
                self._first_latency = time.monotonic() - self._started
            return message
        trailing = plain(await self._call.trailing_metadata())
        initial = await self.initial_metadata()
        self._end(ports.Answer(status_code=0, initial_metadata=initial, trailing_metadata=trailing))
        return None

    async def initial_metadata(self) -> Metadata:
        """As the version sent it."""
        return plain(await self._call.initial_metadata())

    def ended(self) -> ports.Answer:
        """How it ended."""
        assert self._ended is not None
        return self._ended

    def cancel(self) -> None:
        """Give it up."""
        self._call.cancel()

    def _end(self, answer: ports.Answer) -> None:
        latency = time.monotonic() - self._started
        self._ended = replace(answer, latency=latency, first_latency=self._first_latency)


async def collected(stream: ports.AnswerStream, *, largest: int) -> ports.Answer:
    """The whole of a stream as one answer; it is given up once it holds more than `largest` bytes."""
    whole = StreamedPrediction()
    started = time.monotonic()
    first: float | None = None
    try:
        while (message := await stream.next()) is not None:
            first = time.monotonic() - started if first is None else first
            whole.add(message)
            if whole.size > largest:
                return ports.Answer(
                    status_code=RESOURCE_EXHAUSTED,
                    status_message=f"the streamed answer is larger than {largest:,} bytes",
                    latency=time.monotonic() - started,
                    first_latency=first,
                )
    finally:
        stream.cancel()
    answer = stream.ended()
    return answer if answer.status_code else replace(answer, response=whole.whole())


def plain(metadata: grpc.aio.Metadata | None) -> Metadata:
    """Metadata as pairs."""
    return tuple((key, value) for key, value in metadata) if metadata else ()
