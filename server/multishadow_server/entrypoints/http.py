"""HTTP on control's second port: an application made out of route modules, served in control's own event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service.ending import end

# Longer than clients that pool connections leave one unused: who closes first sends no call into the void.
KEEP_ALIVE_SECONDS = 75
# Connections beyond it get 503; each holds little memory, and all of them share one process.
MOST_CONNECTIONS = 4_096

_log = logging.getLogger(__name__)


def application(*modules: Iterable[BaseRoute]) -> Starlette:
    """One application of all these routes. What nobody foresaw is logged, and its innards stay here."""
    return Starlette(
        routes=[route for module in modules for route in module], exception_handlers={Exception: _unforeseen}
    )


async def _unforeseen(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"errorDetails": "control failed on this request; its log says why"}, status_code=500)


class HttpServer:
    """Serves an application on an address.

    Args:
        app: what is served.
        drain_seconds: longest time for requests under way when it stops.
        tls: serve over TLS with this; None serves in the clear.
        option: by which another address is chosen, for who cannot have this one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        drain_seconds: float,
        tls: ssl.SSLContext | None = None,
        option: str = "--http-listen",
    ) -> None:
        self._drain_seconds = drain_seconds
        self._option = option
        config = uvicorn.Config(
            app,
            http=_OneWriteProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            limit_concurrency=MOST_CONNECTIONS,
        )
        config.load()
        config.ssl = tls
        # Only its beginning is used: it would take the signals, which are the role's, and look ten times a second
        # whether it should end.
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)

    async def start(self, listen: str) -> str:
        """Serve, and return the bound address.

        Args:
            listen: `host:port`; port 0 takes a free one.

        Raises:
            InvalidInput: it is none.
            FailedPrecondition: the address cannot be had.
        """
        bound = _bound(listen, self._option)
        await self._server.startup(sockets=[bound])
        return f"{listen.rpartition(':')[0]}:{bound.getsockname()[1]}"

    async def stop(self) -> None:
        """Take no more requests, and give those under way their time."""
        for listener in getattr(self._server, "servers", ()):
            listener.close()
        state = self._server.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            _, late = await asyncio.wait(state.tasks, timeout=self._drain_seconds)
            await end(*late)
        for connection in list(state.connections):
            connection.transport.close()


def _bound(listen: str, option: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        raise InvalidInput(f'"{listen}" is no address to serve HTTP on; give host:port, like 127.0.0.1:50053')
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=2048)
    except (OSError, OverflowError) as error:
        raise FailedPrecondition(
            f"cannot listen on {listen}: {getattr(error, 'strerror', None) or error}. Another program may have it; "
            f"choose another with {option} (port 0 takes a free one)"
        ) from error


class _OneWriteProtocol(H11Protocol):
    """Head and body of a response leave in one write: a client never waits for the second of two packets."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(_Gathering(transport))


class _Gathering(asyncio.Transport):
    """Writes what one turn of the event loop wrote at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._gathered: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            self._transport.writelines(gathered)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  its base's signature
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)
