"""Asking a server whether it serves."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from multishadow_client import Tls
from multishadow_client._address import Address
from multishadow_client._diagnosis import diagnose
from multishadow_server.errors import InvalidInput, Unavailable


async def check(address: str, *, timeout: float, tls: Tls | None = None) -> None:  # noqa: ASYNC109  it travels with the call as its deadline
    """Ask by the gRPC health protocol.

    Args:
        address: host:port, or unix:/path.
        timeout: seconds to wait for the answer.
        tls: ask over TLS.

    Raises:
        InvalidInput: a file of `tls` cannot be used.
        Unavailable: it cannot be reached, says that it does not serve, or does not know the protocol.
    """
    async with _channel(address, tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            called = Address(target=address, encrypted=tls is not None, tls=tls)
            why = await asyncio.to_thread(diagnose, called) or f"{error.code().name}, {error.details()}"
            raise Unavailable(f"{address} does not serve: {why}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise Unavailable(f"{address} answers, but says {name}")


def _channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    # A proxy for this very machine or its network is never meant by a health check.
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    try:
        return grpc.aio.secure_channel(address, tls.credentials(), options=[*options, *tls.options])
    except ValueError as error:
        raise InvalidInput(str(error)) from error
