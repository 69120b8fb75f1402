"""Where a router or control listens."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Self

import grpc
from grpc import aio

from multishadow_client._bearer import AsyncBearer, Bearer
from multishadow_client._tls import Tls

logger = logging.getLogger(__name__)

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
        tls: how; None trusts public authorities.
        token: shown with every call; empty for none.
    """

    target: str
    encrypted: bool = False
    tls: Tls | None = None
    token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, *, default: str, tls: Tls | None = None, token: str = "") -> Address:
        """Read what a person typed: a scheme may stand before it, and the port may be left out.

        `https://` and `grpcs://` mean TLS; `http://` and `grpc://` mean nothing, people just type them. Without a
        port, the port of `default` is meant.

        Args:
            text: what was typed; an `Endpoint` brings the rest along.
            default: what is meant by nothing.
            tls: how to speak TLS; that means it, whatever the scheme.
            token: shown with every call.
        """
        if isinstance(text, Endpoint):
            tls, token = tls or text.tls, token or text.token
        bare = text.strip()
        encrypted = bare.startswith(_ENCRYPTED) or tls is not None
        for scheme in (*_PLAIN, *_ENCRYPTED):
            bare = bare.removeprefix(scheme)
        bare = bare.rstrip("/") or default
        has_port = ":" in bare.rpartition("]")[2]
        target = bare if has_port else f"{bare}:{default.rpartition(':')[2]}"
        return cls(target=target, encrypted=encrypted, tls=tls, token=token)

    def open(self, *, keepalive: float | None = None) -> grpc.Channel:
        """A channel for threads; nothing is connected until the first call.

        Args:
            keepalive: seconds of silence after which the other end is asked whether it is still there; a stream whose
                server hangs or was cut off ends when no answer comes for as long again. None never asks.
        """
        options = [*self._options, *_keepalive_options(keepalive)]
        if self.encrypted:
            channel = grpc.secure_channel(self.target, self._credentials(), options=options)
        else:
            channel = grpc.insecure_channel(self.target, options=options)
        self._warn()
        return grpc.intercept_channel(channel, Bearer(self.token)) if self.token else channel

    def open_async(self) -> aio.Channel:
        """A channel for the running event loop."""
        interceptors = [AsyncBearer(self.token)] if self.token else None
        self._warn()
        if self.encrypted:
            credentials = self._credentials()
            return aio.secure_channel(self.target, credentials, options=self._options, interceptors=interceptors)
        return aio.insecure_channel(self.target, options=self._options, interceptors=interceptors)

    def _warn(self) -> None:
        if self.token and not self.encrypted and not self.target.startswith(_LOCAL):
            logger.warning(
                "the token for %s is sent without TLS: unless a mesh encrypts it, it can be read", self.target
            )

    def _credentials(self) -> grpc.ChannelCredentials:
        return (self.tls or Tls()).credentials()

    @property
    def _options(self) -> list[tuple[str, int | str]]:
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
            *(self.tls.options if self.tls is not None else []),
        ]


class Endpoint(str):
    """An address as it is typed, that brings along how to connect to it: all that takes an address takes one."""

    __slots__ = ("tls", "token")

    tls: Tls | None
    token: str

    def __new__(cls, address: str, *, tls: Tls | None = None, token: str = "") -> Self:
        """Such an address."""
        made = super().__new__(cls, address)
        made.tls, made.token = tls, token
        return made


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
