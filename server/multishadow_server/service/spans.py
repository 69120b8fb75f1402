"""Spans of OpenTelemetry: what they say, and how their context travels with a call.

Imported only where traces are wanted: the extra `tracing` brings what it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from multishadow_server.core.capture import Metadata

# By number; https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ says of which statuses a server is not to blame.
CALLERS_FAULT = frozenset({1, 3, 5, 6, 7, 8, 9, 10, 11, 16})

_CARRIED = frozenset({"traceparent", "tracestate"})
_propagator = TraceContextTextMapPropagator()


@contextmanager
def span(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    *,
    attributes: Attributes = None,
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """A span for what happens in the block. Errors are not recorded: their messages may repeat payloads."""
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        try:
            yield begun
        except asyncio.CancelledError:
            begun.set_attribute("multishadow.cancelled", True)  # noqa: FBT003  its interface
            raise


def parent_of(metadata: Metadata) -> Context:
    """The context that a call's metadata carries; an empty one without."""
    carrier = {key: value for key, value in metadata if key in _CARRIED and isinstance(value, str)}
    return _propagator.extract(carrier, context=Context())


def carrying(metadata: Metadata, of: Span) -> Metadata:
    """The metadata with the context of this span, in place of what it carried."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context=trace.set_span_in_context(of, Context()))
    return (*(entry for entry in metadata if entry[0] not in _CARRIED), *carrier.items())


def linked(metadata: Metadata) -> Sequence[Link]:
    """A link to the span that the metadata names, if it names one."""
    context = trace.get_current_span(parent_of(metadata)).get_span_context()
    return (Link(context),) if context.is_valid else ()


def note_status(of: Span, code: int, *, at_client: bool) -> None:
    """Put down how a call ended. A caller's own fault is an error for who calls, and none for who answers."""
    of.set_attribute("rpc.grpc.status_code", code)
    if code and (at_client or code not in CALLERS_FAULT):
        of.set_status(Status(StatusCode.ERROR))


def call_attributes(method: str) -> dict[str, str]:
    """What a span says of a call of that full name."""
    service, _, name = method.removeprefix("/").partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
