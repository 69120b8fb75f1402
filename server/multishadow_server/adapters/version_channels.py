"""Connections to version servers, in the clear or over TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc
import grpc.aio

from multishadow_server.adapters.tls import CallingTls, Files
from multishadow_server.core import version_address
from multishadow_server.errors import VersionUnavailable
from multishadow_server.service.ending import end

# How often the live path looks whether certificates were renewed; connections that are made outlive their certificate.
LOOK_SECONDS = 5.0
# As long as the longest time limit that a version can have.
CLOSE_SECONDS = 600.0


class VersionChannels:
    """Opens channels to addresses of versions.

    Args:
        tls: what addresses that begin with `tls://` are called with; None trusts public authorities.
        look_seconds: how often `renewed` looks at most.
    """

    def __init__(self, tls: CallingTls | None = None, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._tls = tls or CallingTls(Files.of("VERSIONS", cert=None, key=None, ca=None))
        self._used = self._tls.credentials()
        self._looked_at = time.monotonic()
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, address: str, options: Sequence[tuple[str, int]]) -> grpc.aio.Channel:
        """A channel; nothing is connected until the first call. Raises VersionUnavailable: it is no address."""
        parsed = version_address.parse(address)
        if parsed is None:
            raise VersionUnavailable(f"{address!r} is no address of a version")
        if not parsed.tls:
            return grpc.aio.insecure_channel(parsed.target, options=options)
        named = [("grpc.ssl_target_name_override", parsed.server_name)] if parsed.server_name else []
        return grpc.aio.secure_channel(parsed.target, self._used, options=[*options, *named])

    def renewed(self) -> bool:
        """Whether what is called with has changed since; it looks every few seconds."""
        now = time.monotonic()
        if now - self._looked_at < self._look_seconds:
            return False
        self._looked_at = now
        former, self._used = self._used, self._tls.credentials()
        return self._used is not former

    def close_later(self, channel: grpc.aio.Channel) -> None:
        """Close it once its calls have ended."""
        task = asyncio.ensure_future(channel.close(CLOSE_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close at once what was to be closed later."""
        await end(*self._closing)
