"""Asking a server whether it serves."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from multishadow_server.errors import Unavailable


async def check(address: str, *, timeout: float) -> None:  # noqa: ASYNC109  it travels with the call as its deadline
    """Ask by the gRPC health protocol.

    Args:
        address: host:port, or unix:/path.
        timeout: seconds to wait for the answer.

    Raises:
        Unavailable: it cannot be reached, says that it does not serve, or does not know the protocol.
    """
    # A proxy for this very machine or its network is never meant by a health check.
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"{address} does not serve: {error.code().name}, {error.details()}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise Unavailable(f"{address} answers, but says {name}")
