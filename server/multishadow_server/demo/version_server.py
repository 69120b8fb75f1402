"""A version server: one version of one demo model behind `PredictionService`, with health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from multishadow.v1 import prediction_pb2 as prediction
from multishadow.v1 import prediction_pb2_grpc as prediction_grpc
from multishadow_server.demo import catalogue
from multishadow_server.demo.model import TrainedVersion
from multishadow_server.errors import FailedPrecondition

SERVICE = prediction.DESCRIPTOR.services_by_name["PredictionService"].full_name
DRAIN_SECONDS = 2.0


class VersionServicer(prediction_grpc.PredictionServiceServicer):
    """Answers with one trained version."""

    def __init__(self, trained: TrainedVersion) -> None:
        self._trained = trained

    async def Predict(  # noqa: N802  the name is the protocol's
        self,
        request: prediction.PredictRequest,
        context: grpc.aio.ServicerContext[prediction.PredictRequest, prediction.PredictResponse],
    ) -> prediction.PredictResponse:
        """Answer one request; INVALID_ARGUMENT when its input is not what the model takes."""
        try:
            # In the event loop: an answer takes less than a millisecond, a thread's hand-over about as long.
            return self._trained.answer(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def PredictStream(  # noqa: N802  the name is the protocol's
        self,
        request: prediction.PredictRequest,
        context: grpc.aio.ServicerContext[prediction.PredictRequest, prediction.PredictResponse],
    ) -> AsyncIterator[prediction.PredictResponse]:
        """The same answer, in one piece: these models have it at once."""
        yield await self.Predict(request, context)


async def serve(
    model: str,
    version: str,
    listen: str,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None],
    report: Callable[[str], None],
) -> None:
    """Train the version and serve it until `stop`.

    Raises:
        NotFound: there is no such model or version.
        FailedPrecondition: the address cannot be had.
    """
    found = catalogue.model_named(model)
    catalogue.refuse_unknown_version(found, version)
    # Nine small processes on a few cores: more threads in each only wait for one another.
    with threadpool_limits(limits=1):
        trained = found.train(version)
        report("; ".join(filter(None, (found.versions[version], trained.quality))))
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        prediction_grpc.add_PredictionServiceServicer_to_server(VersionServicer(trained), server)
        await _add_health_and_reflection(server)
        address = _bind(server, listen)
        await server.start()
        ready(address)
        await stop.wait()
        await server.stop(DRAIN_SECONDS)


async def _add_health_and_reflection(server: grpc.aio.Server) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", SERVICE):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


def _bind(server: grpc.aio.Server, listen: str) -> str:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"cannot listen on {listen}: another program may have it; choose another with --listen (port 0 takes a "
            "free one)"
        ) from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
