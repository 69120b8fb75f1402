"""Calls of versions, and comparisons, with a span for each; what they call gets its context."""

from __future__ import annotations

from opentelemetry.trace import Span, SpanKind, Tracer

from multishadow_server.core.capture import Metadata
from multishadow_server.core.comparison import Comparison
from multishadow_server.core.model import Comparator
from multishadow_server.service.ports import Answer, AnswerStream, Comparer, ModelGateway
from multishadow_server.service.spans import call_attributes, carrying, note_status, span


class TracedGateway(ModelGateway):
    """A gateway with a client's span for each call.

    Args:
        gateway: calls.
        tracer: makes the spans.
    """

    def __init__(self, gateway: ModelGateway, tracer: Tracer) -> None:
        self._gateway = gateway
        self._tracer = tracer

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        """Call one version; see ports.ModelGateway."""
        with span(self._tracer, method[1:], SpanKind.CLIENT, attributes=_of_call(address, method)) as begun:
            carried = carrying(metadata, begun)
            answer = await self._gateway.call(address, method, request, metadata=carried, deadline=deadline)
            note_status(begun, answer.status_code, at_client=True)
            return answer

    def stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> AnswerStream:
        """Call a version that answers in several messages; see ports.ModelGateway."""
        begun = self._tracer.start_span(method[1:], kind=SpanKind.CLIENT, attributes=_of_call(address, method))
        carried = carrying(metadata, begun)
        return _TracedStream(self._gateway.stream(address, method, request, metadata=carried, deadline=deadline), begun)

    async def call_stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        """The whole of a streamed answer; see ports.ModelGateway."""
        with span(self._tracer, method[1:], SpanKind.CLIENT, attributes=_of_call(address, method)) as begun:
            carried = carrying(metadata, begun)
            answer = await self._gateway.call_stream(address, method, request, metadata=carried, deadline=deadline)
            note_status(begun, answer.status_code, at_client=True)
            return answer

    async def aclose(self) -> None:
        """Close every channel."""
        await self._gateway.aclose()


class _TracedStream(AnswerStream):
    """A streamed answer whose span ends with it, or when it is given up."""

    def __init__(self, stream: AnswerStream, begun: Span) -> None:
        self._stream = stream
        self._span = begun

    async def next(self) -> bytes | None:
        try:
            message = await self._stream.next()
        except BaseException:
            self._span.end()
            raise
        if message is None:
            note_status(self._span, self._stream.ended().status_code, at_client=True)
            self._span.end()
        return message

    async def initial_metadata(self) -> Metadata:
        return await self._stream.initial_metadata()

    def ended(self) -> Answer:
        return self._stream.ended()

    def cancel(self) -> None:
        self._stream.cancel()
        if self._span.is_recording():
            self._span.set_attribute("multishadow.cancelled", True)  # noqa: FBT003  its interface
            self._span.end()


class TracedComparer(Comparer):
    """A comparer with a span for each comparison.

    Args:
        comparer: compares.
        tracer: makes the spans.
    """

    def __init__(self, comparer: Comparer, tracer: Tracer) -> None:
        self._comparer = comparer
        self._tracer = tracer

    async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
        """Compare two answers; see ports.Comparer."""
        with span(self._tracer, "compare", SpanKind.INTERNAL) as begun:
            found = await self._comparer.compare(comparator, live, shadow)
            begun.set_attribute("multishadow.verdict", found.verdict.value)
            if found.reason:
                begun.set_attribute("multishadow.reason", found.reason)
            return found


def _of_call(address: str, method: str) -> dict[str, str]:
    return {**call_attributes(method), "server.address": address}
