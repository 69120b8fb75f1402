"""A gRPC server that is there again when a call has broken it.

grpc.aio decodes the path of every call in the loop that takes calls. A path that is no UTF-8 ends that loop, and the
server with it: one such call, from anybody who reaches the port, and a role runs on without answering. Nothing can be
put before that loop, so it is watched, and a broken server is replaced at the same address. Calls that it has under
way finish.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import grpc.aio

from multishadow_server.errors import FailedPrecondition
from multishadow_server.service.ending import end

# How soon a broken server is noticed, seconds.
CHECK_SECONDS = 0.5
# How long calls under way of a broken server may go on.
ENDING_SECONDS = 30.0

_log = logging.getLogger(__name__)


class LastingServer:
    """One server after another on one address.

    Args:
        make: a new server with all that it answers.
        bind: lets a server listen on an address, and returns the address with the port that it took; raises
            FailedPrecondition where it cannot.
    """

    def __init__(self, make: Callable[[], grpc.aio.Server], bind: Callable[[grpc.aio.Server, str], str]) -> None:
        self._make = make
        self._bind = bind
        self._server = make()
        self._watch: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self, address: str) -> str:
        """Serve from now on.

        Args:
            address: `host:port` or `unix:/path`; port 0 takes a free one.

        Returns:
            The address with the port that it took, which its successors take again.

        Raises:
            FailedPrecondition: the address cannot be had.
        """
        bound = self._bind(self._server, address)
        await self._server.start()
        self._watch = asyncio.create_task(self._replace_broken(bound))
        return bound

    async def stop(self, grace: float | None) -> None:
        """Take no more calls; those under way have `grace` seconds, also those of servers that broke."""
        await end(self._watch)
        until = time.monotonic() + (grace or 0.0)
        await self._server.stop(grace)
        if self._ending:
            await asyncio.wait(set(self._ending), timeout=max(0.0, until - time.monotonic()))
        await end(*self._ending)

    async def _replace_broken(self, address: str) -> None:
        while True:
            try:
                if not await self._server.wait_for_termination(CHECK_SECONDS):
                    return
            except Exception as error:  # noqa: BLE001  whatever broke it
                _log.warning("a call broke the server on %s, and another takes its place: %s", address, error)
                await self._replace(address)

    async def _replace(self, address: str) -> None:
        broken, self._server = self._server, self._make()
        ending = asyncio.create_task(broken.stop(ENDING_SECONDS))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await self._listen_again(address)
        await self._server.start()

    async def _listen_again(self, address: str) -> None:
        """A server that does not share its port has to wait until the broken one has given it up."""
        told = False
        while True:
            try:
                self._bind(self._server, address)
            except FailedPrecondition as error:
                if not told:
                    _log.error("the server cannot take its place yet: %s", error)
                told = True
                await asyncio.sleep(CHECK_SECONDS)
            else:
                return
