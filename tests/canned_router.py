"""A router that answers as a test wishes, with the metadata that a real one adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from multishadow.v1 import prediction_pb2_grpc
from multishadow.v1.prediction_pb2 import PredictRequest, PredictResponse

Answer = Callable[[PredictRequest, grpc.ServicerContext], PredictResponse]

Stream = Callable[[PredictRequest, grpc.ServicerContext], Iterator[PredictResponse]]


class Router(prediction_pb2_grpc.PredictionServiceServicer):
    """Answers as a test wishes, with the metadata that a router adds."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[PredictRequest] = []
        self.metadata: dict[str, Any] = {}
        self.answer: Answer = lambda request, _context: PredictResponse(text=request.text.upper())
        self.stream: Stream = lambda request, _context: (PredictResponse(text=each) for each in request.text.upper())

    def Predict(self, request: PredictRequest, context: Any) -> PredictResponse:  # noqa: N802  the protocol's name
        self._note(request, context)
        return self.answer(request, context)

    def PredictStream(self, request: PredictRequest, context: Any) -> Iterator[PredictResponse]:  # noqa: N802
        self._note(request, context)
        yield from self.stream(request, context)

    def _note(self, request: PredictRequest, context: Any) -> None:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        context.set_trailing_metadata(
            (
                ("x-multishadow-request-id", request.request_id or "made-by-the-router"),
                ("x-multishadow-version", "A"),
                ("x-multishadow-revision", "42"),
                ("trace-bin", b"\xff"),
            )
        )


@contextmanager
def serving(router: Router) -> Iterator[Router]:
    """Serve it on a free port of this machine."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.max_receive_message_length", -1)])
    prediction_pb2_grpc.add_PredictionServiceServicer_to_server(router, server)
    router.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield router
    finally:
        server.stop(grace=None).wait(10)
