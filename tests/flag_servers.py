"""Flags served over gRPC and HTTP without a database: the real servers, over flags that a test loads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio

from multishadow_server.adapters.flagd_flags import SHARED_CONTEXT, FlagdFlags
from multishadow_server.core.configuration import Configuration
from multishadow_server.entrypoints import probes
from multishadow_server.entrypoints.flagd import FlagdServices
from multishadow_server.entrypoints.http import HttpServer, application
from multishadow_server.entrypoints.ofrep import Ofrep
from multishadow_server.service.flag_feed import FlagFeed

FREE = "127.0.0.1:0"


class FlagServer:
    """Where flags are served, and the feed behind them."""

    def __init__(self) -> None:
        self.age = 0.0
        self.feed = FlagFeed(FlagdFlags, age=lambda: self.age, stale_after=10.0)
        self.revision = 0
        self.flags: dict[str, Any] = {}
        self.grpc = ""
        self.http = ""

    def load(self, flags: Mapping[str, Any] | None = None) -> None:
        """Add or replace these flags, in a new revision; the rest of the configuration may change without any."""
        self.revision += 1
        self.flags = {**self.flags, **(flags or {})}
        self.feed.load(Configuration(revision=self.revision, flags=self.flags))

    def remove(self, key: str) -> None:
        self.flags.pop(key)
        self.load()


@asynccontextmanager
async def flag_server(
    flags: Mapping[str, Any] | None, *, keep_alive: float = 20.0, rate: float = 20_000, **ofrep_bounds: Any
) -> AsyncIterator[FlagServer]:
    """Serve these flags until the block ends; None: none were read yet."""
    server = FlagServer()
    if flags is not None:
        server.load(flags)
    async with AsyncExitStack() as stack:
        ofrep = Ofrep(server.feed, evaluations_per_second=rate, keep_alive=keep_alive, **ofrep_bounds)
        http = HttpServer(
            application(probes.routes(server.feed, leaving=lambda: False), ofrep.routes()), drain_seconds=0.5
        )
        stack.push_async_callback(http.stop)
        rpc = grpc.aio.server()
        FlagdServices(server.feed, shared_context=SHARED_CONTEXT, keep_alive=keep_alive).add_to(rpc)
        stack.push_async_callback(rpc.stop, 0.5)
        stack.callback(server.feed.close)
        server.grpc = f"127.0.0.1:{rpc.add_insecure_port(FREE)}"
        await rpc.start()
        server.http = await http.start(FREE)
        yield server
