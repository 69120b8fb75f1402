"""Version servers over gRPC. Requests and responses pass as bytes; nothing is parsed here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import grpc
import grpc.aio

from multishadow_server.adapters.answer_stream import GrpcAnswerStream, collected
from multishadow_server.adapters.tls import CallingTls
from multishadow_server.adapters.version_channels import VersionChannels
from multishadow_server.core.capture import Metadata
from multishadow_server.core.metadata import header_text
from multishadow_server.core.protocols import LONGEST_RENAMING
from multishadow_server.core.version_address import SCHEME
from multishadow_server.service import ports

# gRPC itself owns these; a call that sets them fails or says something untrue.
_TRANSPORT_KEYS = frozenset({"user-agent", "te", "content-type", "accept-encoding", "content-encoding"})
# How gRPC core begins the message of a status it made itself, because there was nobody to talk to. There is no other
# sign: neither the code nor the metadata tells whether a status came from the peer.
_UNREACHED = ("failed to connect", "errors resolving", "DNS resolution failed", "no addresses", "empty address list")


class GrpcModelGateway(ports.ModelGateway):
    """One channel per address, made on its first use and kept.

    Args:
        max_message_bytes: largest request or response.
        tls: what addresses that begin with `tls://` are called with; None trusts public authorities.
    """

    def __init__(self, *, max_message_bytes: int, tls: CallingTls | None = None) -> None:
        self._options = channel_options(max_message_bytes)
        self._tls = VersionChannels(tls)
        self._max_message_bytes = max_message_bytes
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._methods: dict[tuple[str, str], grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._streams: dict[tuple[str, str], grpc.aio.UnaryStreamMultiCallable[bytes, bytes]] = {}

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> ports.Answer:
        """Call one version; see ports.ModelGateway."""
        started = time.monotonic()
        timeout = None if deadline is None else max(0.0, deadline - started)
        if address.startswith(SCHEME):
            self._renew()
        known = self._methods.get((address, method))
        if known is None:
            known = self._methods[address, method] = self._channel(address).unary_unary(method)
        call = known(request, timeout=timeout, metadata=_Sent(_sendable(metadata)))
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            return _failure(error, latency=time.monotonic() - started)
        latency = time.monotonic() - started
        initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
        return ports.Answer(
            status_code=0,
            response=response,
            latency=latency,
            initial_metadata=tuple(initial) if initial else (),
            trailing_metadata=tuple(trailing) if trailing else (),
        )

    def stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> ports.AnswerStream:
        """Call a version that answers in several messages; see ports.ModelGateway."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if address.startswith(SCHEME):
            self._renew()
        known = self._streams.get((address, method))
        if known is None:
            known = self._streams[address, method] = self._channel(address).unary_stream(method)
        call = known(request, timeout=timeout, metadata=_Sent(_sendable(metadata)))
        return GrpcAnswerStream(call, failure=lambda error: _failure(error, latency=0.0))

    async def call_stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> ports.Answer:
        """The whole of a streamed answer; see ports.ModelGateway."""
        stream = self.stream(address, method, request, metadata=metadata, deadline=deadline)
        return await collected(stream, largest=self._max_message_bytes)

    async def aclose(self) -> None:
        """Close every channel; calls under way fail."""
        channels, self._channels = list(self._channels.values()), {}
        self._methods.clear()
        self._streams.clear()
        for channel in channels:
            await channel.close()
        await self._tls.aclose()

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._tls.open(address, self._options)
        return channel

    def _renew(self) -> None:
        """Call anew over TLS once its files were renewed; calls under way end as they would have."""
        if not self._tls.renewed():
            return
        for each in [each for each in self._channels if each.startswith(SCHEME)]:
            self._tls.close_later(self._channels.pop(each))
        self._methods = {key: call for key, call in self._methods.items() if not key[0].startswith(SCHEME)}
        self._streams = {key: call for key, call in self._streams.items() if not key[0].startswith(SCHEME)}


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """What gRPC is told of channels to versions."""
    return [
        # The largest request that a router takes may be renamed on its way.
        ("grpc.max_send_message_length", max_message_bytes + LONGEST_RENAMING),
        ("grpc.max_receive_message_length", max_message_bytes),
        # A version that comes back is called again within a second; gRPC's own backoff grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # This is also how long a connection may take to be made: a busy machine needs more than the backoff.
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # Addresses of versions are meant as they stand, whatever proxy the environment names.
        ("grpc.enable_http_proxy", 0),
        # No retries by service config: the router alone decides who answers, and a shadow is called once.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Channelz notes every call for a service that is not offered (docs/decisions/router-cost.md).
        ("grpc.enable_channelz", 0),
    ]


def _sendable(metadata: Metadata) -> Metadata:
    """Without what gRPC sets itself. A value that no header may hold would fail the whole call: it is encoded."""
    # A list first: a tuple of a generator takes each call half a microsecond longer.
    return tuple(
        [
            (key, header_text(value) if isinstance(value, str) else value)
            for key, value in metadata
            if key not in _TRANSPORT_KEYS and not (key.startswith("grpc-") and not key.endswith("-bin"))
        ]
    )


class _Sent(tuple[tuple[str, str | bytes], ...], grpc.aio.Metadata):  # type: ignore[misc]  # both iterate over entries
    """Metadata of a call as the tuple of its entries.

    grpc.aio takes any sequence, makes a dictionary of lists of it, and of that a tuple again, which it sends. What is
    Metadata already it only measures and iterates, which a tuple does by itself.
    """

    __slots__ = ()
    # A tuple is made by its __new__; what Metadata would do with the entries is not wanted.
    __init__ = object.__init__


def _plain(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    return tuple(metadata) if metadata else ()


def _failure(error: grpc.aio.AioRpcError, *, latency: float) -> ports.Answer:
    return _failed(
        _number(error.code()),
        error.details() or "",
        _plain(error.initial_metadata()),
        _plain(error.trailing_metadata()),
        latency=latency,
    )


def _failed(code: int, details: str, initial: Metadata, trailing: Metadata | None, *, latency: float) -> ports.Answer:
    return ports.Answer(
        status_code=code,
        status_message=details,
        latency=latency,
        initial_metadata=initial,
        trailing_metadata=trailing or (),
        reached=not (code == _UNAVAILABLE and details.startswith(_UNREACHED)),
    )


_number: Callable[[grpc.StatusCode], int] = {code: int(code.value[0]) for code in grpc.StatusCode}.__getitem__
_UNAVAILABLE = _number(grpc.StatusCode.UNAVAILABLE)
