"""How gRPC servers take their address: in the clear, or over TLS."""

from __future__ import annotations

import grpc
import grpc.aio

# A connection that says nothing is closed after so long, milliseconds; gRPC's own limit is two minutes.
HANDSHAKE_LIMIT = ("grpc.server_handshake_timeout_ms", 10_000)
# Calls that have come and were not taken up yet. From 1,000 on gRPC ends some of them, from 3,000 on all, as CANCELLED,
# which says of callers what they did not do. A burst, or a machine that stood still for some seconds, is answered late:
# who waits, and how long, is for their deadlines to say. What is left is a bound for the memory that they take.
WAITING_LIMITS = (
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


def add_port(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Listen on the address; returns the port. Raises RuntimeError: it cannot be had."""
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)
