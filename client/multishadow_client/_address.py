"""Where a router or control listens."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from grpc import aio

ROUTER = "127.0.0.1:50051"
CONTROL = "127.0.0.1:50052"

_PLAIN, _ENCRYPTED = ("http://", "grpc://"), ("https://", "grpcs://")
_LOCAL = ("127.", "localhost:", "[::1]:", "unix:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where to connect, and how.

    Args:
        target: as gRPC takes it: `host:port`, `unix:/path`, `dns:///host:port`.
        encrypted: whether with TLS.
    """

    target: str
    encrypted: bool = False

    @classmethod
    def parse(cls, text: str, *, default: str) -> Address:
        """Read what a person typed: a scheme may stand before it, and the port may be left out.

        `https://` and `grpcs://` mean TLS; `http://` and `grpc://` mean nothing, people just type them. Without a
        port, the port of `default` is meant.
        """
        bare = text.strip()
        encrypted = bare.startswith(_ENCRYPTED)
        for scheme in (*_PLAIN, *_ENCRYPTED):
            bare = bare.removeprefix(scheme)
        bare = bare.rstrip("/") or default
        has_port = ":" in bare.rpartition("]")[2]
        return cls(target=bare if has_port else f"{bare}:{default.rpartition(':')[2]}", encrypted=encrypted)

    def open(self, *, keepalive: float | None = None) -> grpc.Channel:
        """A channel for threads; nothing is connected until the first call.

        Args:
            keepalive: seconds of silence after which the other end is asked whether it is still there; a stream whose
                server hangs or was cut off ends when no answer comes for as long again. None never asks.
        """
        options = [*self._options, *_keepalive_options(keepalive)]
        if self.encrypted:
            return grpc.secure_channel(self.target, grpc.ssl_channel_credentials(), options=options)
        return grpc.insecure_channel(self.target, options=options)

    def open_async(self) -> aio.Channel:
        """A channel for the running event loop."""
        if self.encrypted:
            return aio.secure_channel(self.target, grpc.ssl_channel_credentials(), options=self._options)
        return aio.insecure_channel(self.target, options=self._options)

    @property
    def _options(self) -> list[tuple[str, int]]:
        """Channel options.

        How large an answer may be is the router's to say, so that one setting decides it, not two. gRPC waits up to two
        minutes between attempts to connect; nobody should be without answers for so long after a restart. A proxy for
        this very machine is never meant, yet gRPC would use one that stands in the environment.
        """
        local = self.target.startswith(_LOCAL)
        return [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            *([("grpc.enable_http_proxy", 0)] if local else []),
        ]


def _keepalive_options(seconds: float | None) -> list[tuple[str, int]]:
    if seconds is None:
        return []
    milliseconds = max(1, round(seconds * 1000))
    return [
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", milliseconds),
        # Without it gRPC waits a minute for the answer, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", milliseconds),
        ("grpc.http2.max_pings_without_data", 0),
    ]
