"""What gRPC's core is told. It reads its environment once, when it is loaded: before the first `import grpc`."""

from __future__ import annotations

import os

# Without its event engine the thread that waits for calls also reads and writes their sockets; with it every piece is
# handed over between threads, at a good tenth of a router's processor time (bench/live_path.py). A grpcio that knows
# these experiments no longer writes a line about each on standard error, and a test fails.
POLLED_SOCKETS = "-event_engine_client,-event_engine_listener"


def quiet() -> None:
    """No lines of its own on standard error, beside the errors that it raises."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def poll_sockets() -> None:
    """For processes that do little but call and answer. What GRPC_EXPERIMENTS says already stands."""
    os.environ.setdefault("GRPC_EXPERIMENTS", POLLED_SOCKETS)
