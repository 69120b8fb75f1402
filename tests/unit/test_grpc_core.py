"""What gRPC's core is told before it is loaded, as the installed grpcio takes it."""

from __future__ import annotations

import os
import subprocess
import sys

# Prints the share of the process's time that went to threads of gRPC's event engine, over 300 calls to itself.
CALLS = """
import asyncio, pathlib
from multishadow_server.entrypoints import cli, grpc_core
grpc_core.poll_sockets()
import grpc.aio

async def echo(body, context):
    return body

def spent(name=""):
    threads = pathlib.Path("/proc/self/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0])
               for thread in threads if (thread / "comm").read_text().startswith(name))

async def main():
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary("/s/m")
        before, all_before = spent("event_engine"), spent()
        for _ in range(300):
            assert await call(b"?") == b"?"
        print((spent("event_engine") - before) / (spent() - all_before))
    await server.stop(None)

asyncio.run(main())
"""


def calls(**environment: str) -> tuple[float, str]:
    """The share, and what was written to standard error."""
    clean = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    run = subprocess.run(
        [sys.executable, "-c", CALLS], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return float(run.stdout), run.stderr


def test_this_grpcio_can_poll_sockets_in_the_thread_that_waits_for_calls() -> None:
    share, complaints = calls()
    assert share < 0.03
    assert complaints == ""


def test_what_the_environment_says_of_experiments_stands() -> None:
    share, _ = calls(GRPC_EXPERIMENTS="event_engine_client,event_engine_listener")
    assert share > 0.03
