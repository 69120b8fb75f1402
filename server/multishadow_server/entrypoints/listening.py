"""How gRPC servers take their address: in the clear, or over TLS."""

from __future__ import annotations

import grpc
import grpc.aio

# A connection that says nothing is closed after so long, milliseconds; gRPC's own limit is two minutes.
HANDSHAKE_LIMIT = ("grpc.server_handshake_timeout_ms", 10_000)


def add_port(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Listen on the address; returns the port. Raises RuntimeError: it cannot be had."""
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)
