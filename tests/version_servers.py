"""Real version servers with a known behaviour: they answer, fail, hang, or diverge on requests that a test can name."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from multishadow.v1 import prediction_pb2, prediction_pb2_grpc

Context = grpc.aio.ServicerContext[prediction_pb2.PredictRequest, prediction_pb2.PredictResponse]
Behaviour = Callable[[prediction_pb2.PredictRequest, Context], Awaitable[prediction_pb2.PredictResponse]]

PREDICT = "/multishadow.v1.PredictionService/Predict"


@dataclass(slots=True)
class VersionServer:
    """A running version server, and what it was asked.

    `most_at_once` is the largest number of calls that were under way at the same time.
    """

    behaviour: Behaviour
    address: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0


class _Servicer(prediction_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server: VersionServer) -> None:
        self._server = server

    async def Predict(  # noqa: N802  the stub's name
        self, request: prediction_pb2.PredictRequest, context: Context
    ) -> prediction_pb2.PredictResponse:
        server = self._server
        server.calls[request.request_id] += 1
        server.metadata.append({str(key): value for key, value in context.invocation_metadata() or ()})
        server.under_way += 1
        server.most_at_once = max(server.most_at_once, server.under_way)
        try:
            return await server.behaviour(request, context)
        finally:
            server.under_way -= 1

    async def PredictStream(  # noqa: N802  the stub's name
        self, request: prediction_pb2.PredictRequest, context: Context
    ) -> AsyncIterator[prediction_pb2.PredictResponse]:
        yield await self.Predict(request, context)


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[VersionServer]:
    """A version server on a free port of the loopback address, until the block ends."""
    running = VersionServer(behaviour)
    server = grpc.aio.server()
    prediction_pb2_grpc.add_PredictionServiceServicer_to_server(_Servicer(running), server)
    running.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield running
    finally:
        await server.stop(grace=None)


def labelled(label: str) -> prediction_pb2.PredictResponse:
    """A classification."""
    return prediction_pb2.PredictResponse(classification=prediction_pb2.Classification(label=label))


def answering(label: str = "yes") -> Behaviour:
    """Always the same label."""

    async def predict(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        return labelled(label)

    return predict


def diverging(rate: float, *, label: str = "yes", other: str = "no") -> Behaviour:
    """The other label on a share of the requests; `diverges_on` says which."""

    async def predict(request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        return labelled(other if diverges_on(request.request_id, rate) else label)

    return predict


def diverges_on(request_id: str, rate: float) -> bool:
    """Whether a server that diverges at this rate diverges on this request."""
    return zlib.crc32(request_id.encode()) % 10_000 < rate * 10_000


def failing(code: grpc.StatusCode = grpc.StatusCode.INTERNAL, message: str = "out of order") -> Behaviour:
    """Always this status."""

    async def predict(_request: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        await context.abort(code, message)
        raise AssertionError("abort raises")

    return predict


def hanging() -> Behaviour:
    """Never an answer: until the caller gives up, or the server stops."""

    async def predict(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    return predict


def gated(gate: asyncio.Event, label: str = "yes") -> Behaviour:
    """An answer once the gate is open."""

    async def predict(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        await gate.wait()
        return labelled(label)

    return predict
