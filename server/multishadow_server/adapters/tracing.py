"""OpenTelemetry: where spans go, and what they are sampled by.

Imported only where traces are wanted: the extra `tracing` brings what it needs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

LAST_SECONDS = 2.0


def provider_of(role: str, instance: str) -> TracerProvider:
    """What makes spans and sends them by OTLP over gRPC, as the OTEL_* variables say.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ lists them. A worker goes by what
    routers have sampled, whatever OTEL_TRACES_SAMPLER says: half a trace tells nothing.
    """
    ours = {
        "service.name": f"multishadow-{role}",
        "service.version": version("multishadow"),
        "service.instance.id": instance,
    }
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins.
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    sampler = ParentBased(root=SampledWithItsRequest()) if role == "worker" else None
    provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class SampledWithItsRequest(Sampler):
    """Samples what begins for a request iff a span that it is linked to was."""

    def should_sample(  # noqa: PLR0917  its base's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Whether it is sampled."""
        del parent_context, trace_id, name, kind
        sampled = any(link.context.trace_flags.sampled for link in links or ())
        return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes, trace_state)

    def get_description(self) -> str:
        """For people."""
        return "SampledWithItsRequest"


async def end(provider: TracerProvider) -> None:
    """Send what is left, for a moment at most: a collector that is away holds up no role that ends."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        loop.call_soon_threadsafe(done.set)

    # No thread of the pool: asyncio would wait for that one, however long it takes.
    threading.Thread(target=shut_down, daemon=True).start()
    try:
        async with asyncio.timeout(LAST_SECONDS):
            await done.wait()
    except TimeoutError:
        logging.getLogger(__name__).warning("the last traces are lost: the collector did not take them in time")


class TraceOfRecord(logging.Filter):
    """Notes on records of the log which span they belong to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True."""
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
            record.span_id = trace.format_span_id(context.span_id)
        return True


def note_in_log() -> None:
    """Have every record of the process's log say which span it belongs to."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(each, TraceOfRecord) for each in handler.filters):
            handler.addFilter(TraceOfRecord())
