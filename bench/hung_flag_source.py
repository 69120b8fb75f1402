"""What a flag source that hangs costs callers: asked in the event loop, and as the router asks.

    python bench/hung_flag_source.py

The stock OFREP provider (time limit: its default of five seconds is shortened to one here) on an HTTP server that takes
requests and never answers. 32 readers read a model's two flags again and again. Shown: how long a reading took, and
the longest time in which the event loop did nothing for anybody.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from rich.console import Console
from rich.table import Table
from stations import percentile

from multishadow_server.adapters.flag_provider import NamedProvider
from multishadow_server.adapters.openfeature_flags import evaluation_context
from multishadow_server.adapters.provider_claims import ProviderClaims
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.model import Model, Version
from multishadow_server.core.targeting import Context, context_of
from multishadow_server.settings import Settings

READERS = 32
SECONDS = 5.0
TIME_LIMIT = 1.0
KEYS = ("spam.base", "spam.A")
VERSIONS = tuple(Version(model="spam", name=name, address="a") for name in ("base", "A"))
CONFIGURATION = Configuration(revision=1, models={"spam": Model(name="spam", versions=VERSIONS)})
Read = Callable[[], Awaitable[object]]


def subject() -> Context:
    """One request's context."""
    return context_of(model="spam", request_id="r", session_id="s", attributes={})


@contextmanager
def source(answering: threading.Event) -> Iterator[str]:
    """An OFREP server that says `live`, while `answering` is set."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answering.wait()
            body = json.dumps({"key": "k", "value": "live", "variant": "live", "reason": "STATIC"}).encode()
            self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    answering.set()
    server.shutdown()


async def measure(read: Read) -> tuple[list[float], float]:
    """Seconds that readings took, and the longest stall of the loop."""
    delays: list[float] = []
    stall, ends = 0.0, time.monotonic() + SECONDS

    async def reader() -> None:
        while time.monotonic() < ends:
            began = time.monotonic()
            await read()
            delays.append(time.monotonic() - began)
            await asyncio.sleep(0.005)

    async def clock() -> None:
        nonlocal stall
        last = time.monotonic()
        while last < ends:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            stall, last = max(stall, now - last), now

    await asyncio.gather(clock(), *(reader() for _ in range(READERS)))
    return delays, stall


async def compare() -> list[tuple[str, list[float], float]]:
    """Both ways on a source that has just begun to hang."""
    answering = threading.Event()
    answering.set()
    found = []
    with source(answering) as url:
        api.set_provider_and_wait(OFREPProvider(url, timeout=TIME_LIMIT), domain="in the loop")
        client = api.get_client("in the loop")

        async def in_the_loop() -> None:
            for key in KEYS:
                await client.get_string_value_async(key, "off", evaluation_context(subject()))

        limit = Settings().flag_read_limit
        provider = OFREPProvider(url, timeout=TIME_LIMIT)
        claims = ProviderClaims(NamedProvider(name="ofrep", provider=provider, local=False), limit=limit)
        claims.load(CONFIGURATION)
        await claims.first_reading()

        async def as_the_router() -> None:
            reading = claims.read(KEYS, subject)
            if not isinstance(reading, Sequence):
                await reading

        answering.clear()
        for name, read in (("async methods in the loop", in_the_loop), ("as the router asks", as_the_router)):
            found.append((name, *await measure(read)))
        claims.close()
    api.shutdown()
    return found


def main() -> None:
    """Measure and print."""
    table = Table(title=f"a flag source that hangs, {READERS} readers, {SECONDS:g} s each")
    table.add_column("way")
    for column in ("readings", "p50 ms", "p99 ms", "largest ms", "longest stall of the loop ms"):
        table.add_column(column, justify="right")
    for name, delays, stall in asyncio.run(compare()):
        figures = (percentile(delays, 0.5), percentile(delays, 0.99), max(delays), stall)
        table.add_row(name, str(len(delays)), *(f"{figure * 1e3:.1f}" for figure in figures))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
