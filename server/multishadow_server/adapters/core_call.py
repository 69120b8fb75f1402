"""Unary calls made in gRPC's core, without what grpc.aio puts around each: an object, a task, and metadata as mappings.

It is the very call that grpc.aio makes underneath; making it directly takes a third off a call (bench/live_path.py,
docs/decisions/router-cost.md). grpcio calls this part of itself private. So it is tried on a channel before it is
used, and where it is not as expected its user calls in the public way.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol, cast

import grpc.aio

from multishadow_server.core.capture import Metadata

_CANCELLED = "cancelled by the caller"


class Status(Protocol):
    """How a call ended: `cygrpc.AioRpcStatus`."""

    def code(self) -> int:
        """The gRPC status."""
        ...

    def details(self) -> str:
        """Its message."""
        ...

    def trailing_metadata(self) -> Metadata | None:
        """As the peer sent it."""
        ...


class Call(Protocol):
    """One call: `cygrpc._AioCall`."""

    async def unary_unary(self, request: bytes, metadata: Metadata, context: object) -> bytes | None:
        """Make it; the response, or None when its status is not OK."""
        ...

    async def initial_metadata(self) -> Metadata:
        """As the peer sent it."""
        ...

    async def status(self) -> Status:
        """How it ended."""
        ...

    def cancel(self, details: str) -> None:
        """End it."""
        ...


class _Channel(Protocol):
    """A channel: `cygrpc.AioChannel`."""

    def call(self, method: bytes, deadline: float | None, credentials: object, wait_for_ready: object) -> Call:
        """A call that has not begun."""
        ...


class CoreCalls:
    """Makes unary calls over one channel.

    Args:
        channel: in gRPC's core; see `of`.
    """

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._under_way: set[Call] = set()

    @classmethod
    def of(cls, channel: grpc.aio.Channel) -> CoreCalls | None:
        """Those over this channel; None when this grpcio is made in another way than expected."""
        core: Any = getattr(channel, "_channel", None)
        try:
            # One that is never begun costs nothing and sends nothing.
            probe = core.call(b"/", time.time(), None, None)
        except (AttributeError, TypeError):
            return None
        expected = (name for name in vars(Call) if not name.startswith("_"))
        return cls(cast("_Channel", core)) if all(hasattr(probe, name) for name in expected) else None

    async def unary(
        self, method: bytes, request: bytes, metadata: Metadata, *, deadline: float | None
    ) -> tuple[bytes | None, Status, Metadata]:
        """Call once.

        Args:
            method: full name.
            request: its bytes.
            metadata: to send.
            deadline: on the `time.monotonic` clock.

        Returns:
            The response, None unless the status is OK; the status; the peer's initial metadata.

        Cancelling the coroutine cancels the call.
        """
        # gRPC wants it on the clock that may be set.
        due = None if deadline is None else time.time() + max(0.0, deadline - time.monotonic())
        call = self._channel.call(method, due, None, None)
        self._under_way.add(call)
        try:
            response = await call.unary_unary(request, metadata, None)
        except asyncio.CancelledError:
            call.cancel(_CANCELLED)
            raise
        finally:
            self._under_way.discard(call)
        return response, await call.status(), await call.initial_metadata()

    def cancel(self) -> None:
        """End the calls under way: a channel of grpc.aio that is closed knows nothing of them."""
        for call in list(self._under_way):
            call.cancel(_CANCELLED)
