"""The gRPC server of control: all its services on one address, with health and reflection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from multishadow_server.entrypoints import listening
from multishadow_server.entrypoints.lasting_server import LastingServer
from multishadow_server.entrypoints.readable_requests import ReadableRequests
from multishadow_server.errors import FailedPrecondition

_OPTIONS = (
    # A second control on the same address would take half of the calls unnoticed.
    ("grpc.so_reuseport", 0),
    # Clients that wait long between calls may keep their connection alive.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # A document of all flags, whatever its blanks; the store bounds what it keeps of it.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # Who follows flags and is gone without a word is found out: nothing is sent to it while no flag changes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    listening.HANDSHAKE_LIMIT,
    *listening.WAITING_LIMITS,
)


class Services(Protocol):
    """One or more gRPC services that are answered together."""

    @property
    def names(self) -> Sequence[str]:
        """Their full names."""
        ...

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer them."""
        ...


class ControlServer:
    """Control's services on an address.

    Args:
        services: serve from the start.
        later: answer from the start, too; their health is NOT_SERVING until `now_serve`.
        credentials: of TLS; None serves in the clear.
        describe: whether it answers reflection.
        interceptors: see every call first.
    """

    def __init__(
        self,
        *services: Services,
        later: Services,
        credentials: grpc.ServerCredentials | None = None,
        describe: bool = True,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._services = (*services, later)
        self._describe = describe
        self._interceptors = (*interceptors, ReadableRequests())
        self._health = health.aio.HealthServicer()
        self._serving = [name for each in services for name in each.names]
        self._waiting = list(later.names)
        self._server = LastingServer(self._made, partial(_bind, credentials=credentials))

    def _made(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=_OPTIONS, interceptors=self._interceptors)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for each in self._services:
            each.add_to(server)
        if self._describe:
            names = (*self._serving, *self._waiting, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    async def now_serve(self, services: Services) -> None:
        """Say by the health protocol that these serve."""
        await self._say(health_pb2.HealthCheckResponse.SERVING, services.names)

    async def start(self, listen: str) -> str:
        """Serve, and return the bound address.

        Args:
            listen: `host:port` or `unix:/path`; port 0 takes a free one.

        Raises:
            FailedPrecondition: the address cannot be had.
        """
        address = await self._server.start(listen)
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING, self._waiting)
        await self._say(health_pb2.HealthCheckResponse.SERVING, ["", *self._serving])
        return address

    async def leave(self) -> None:
        """Say by the health protocol that nothing serves any more, and go on answering."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING, ["", *self._serving, *self._waiting])

    async def stop(self, drain_seconds: float) -> None:
        """Take no more calls, and give those under way their time."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(drain_seconds)

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus, names: Sequence[str]) -> None:
        for name in names:
            await self._health.set(name, status)


def _bind(server: grpc.aio.Server, listen: str, *, credentials: grpc.ServerCredentials | None) -> str:
    try:
        port = listening.add_port(server, listen, credentials)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"cannot listen on {listen}: another program may have it; choose another with --listen (port 0 takes "
            "a free one)"
        ) from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
