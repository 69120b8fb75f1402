"""Asking whether a version's server is there."""

from __future__ import annotations

import asyncio

from multishadow_server.adapters.tls import CallingTls
from multishadow_server.adapters.version_channels import VersionChannels
from multishadow_server.errors import VersionUnavailable

# Addresses are meant as they stand, whatever proxy the environment names; and every probe tries anew.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


class GrpcVersionProbe:
    """Connects and hangs up: a VersionProbe.

    It calls nothing, because version servers need not offer gRPC's health service. A connection counts once the server
    has spoken HTTP/2, so a port that something else listens on does not pass for a version.

    Args:
        tls: see VersionChannels.
    """

    def __init__(self, tls: CallingTls | None = None) -> None:
        self._tls = tls

    async def connect(self, address: str, *, within: float) -> None:
        """Connect to it and hang up. Raises VersionUnavailable when that takes longer than `within` seconds."""
        async with VersionChannels(self._tls).open(address, _OPTIONS) as channel:
            try:
                async with asyncio.timeout(within):
                    await channel.channel_ready()
            except TimeoutError:
                raise VersionUnavailable(f"no gRPC server answered within {within:g} s") from None
