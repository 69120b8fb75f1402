"""The router's door, with a span for each request that comes through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import grpc
import grpc.aio
from opentelemetry.trace import Span, SpanKind, Tracer

from multishadow_server.core.capture import Metadata
from multishadow_server.core.request_ids import tellable
from multishadow_server.entrypoints.door import REVISION, VERSION, Context, Door, Method
from multishadow_server.service.live_path import REQUEST_ID, LivePath
from multishadow_server.service.spans import call_attributes, carrying, note_status, parent_of, span

# What an answer's metadata says, by the attribute that says it in the span.
_TOLD = {VERSION: "multishadow.version", REVISION: "multishadow.revision"}


class TracedDoor(Door):
    """A door with a server's span for each request, a child of the caller's if it has one.

    What is read of the call's metadata is the span's context in place of the caller's: so it reaches the live version,
    and is captured.

    Args:
        live_path, max_message_bytes: see Door.
        tracer: makes the spans.
    """

    def __init__(self, live_path: LivePath, *, max_message_bytes: int, tracer: Tracer) -> None:
        super().__init__(live_path, max_message_bytes=max_message_bytes)
        self._tracer = tracer

    async def answer(self, method: Method, body: bytes, context: Context) -> bytes:
        """One request; see Door."""
        with _traced(self._tracer, method, context) as traced:
            return await super().answer(method, body, traced)

    async def pass_on(self, method: Method, body: bytes, context: Context) -> bytes:
        """One question about the live version; see Door."""
        with _traced(self._tracer, method, context) as traced:
            return await super().pass_on(method, body, traced)

    async def stream(self, method: Method, body: bytes, context: Context) -> None:
        """One request whose answer is streamed; see Door."""
        with _traced(self._tracer, method, context) as traced:
            await super().stream(method, body, traced)


@contextmanager
def _traced(tracer: Tracer, method: Method, context: Context) -> Iterator[Context]:
    sent: Metadata = tuple((str(key), value) for key, value in context.invocation_metadata() or ())
    attributes = call_attributes(method.name)
    with span(tracer, method.name[1:], SpanKind.SERVER, attributes=attributes, parent=parent_of(sent)) as begun:
        yield cast("Context", _TracedContext(context, begun, carrying(sent, begun)))


class _TracedContext:
    """Does what the call's context does, and notes in the span how the call ends."""

    def __init__(self, context: Context, begun: Span, metadata: Metadata) -> None:
        self._context = context
        self._span = begun
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever gRPC's has
        return getattr(self._context, name)

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def set_trailing_metadata(self, trailing: Metadata) -> None:
        note_status(self._span, 0, at_client=False)
        self._note(trailing)
        self._context.set_trailing_metadata(trailing)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> None:
        note_status(self._span, int(code.value[0]), at_client=False)
        self._note(tuple(trailing_metadata))
        await self._context.abort(code, details, tuple(trailing_metadata))

    def _note(self, trailing: Metadata) -> None:
        for key, value in trailing:
            if key in _TOLD:
                self._span.set_attribute(_TOLD[key], str(value))
            elif key == REQUEST_ID and (request_id := tellable(str(value))):
                self._span.set_attribute("multishadow.request_id", request_id)
