"""A collector of traces: speaks OTLP over gRPC, and keeps what it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One span as it arrived; ids are bytes, links ids of traces and spans."""

    service: str
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    links: tuple[tuple[bytes, bytes], ...]
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What was sent so far."""

    address: str = ""
    spans: list[Sent] = field(default_factory=list)

    def Export(self, request: otlp.ExportTraceServiceRequest, context: object) -> otlp.ExportTraceServiceResponse:  # noqa: N802  gRPC's name
        del context
        for resource in request.resource_spans:
            service = _plain(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans.extend(
                    Sent(
                        service=service,
                        name=each.name,
                        trace=each.trace_id,
                        id=each.span_id,
                        parent=each.parent_span_id,
                        links=tuple((link.trace_id, link.span_id) for link in each.links),
                        attributes=_plain(each.attributes),
                    )
                    for each in scope.spans
                )
        return otlp.ExportTraceServiceResponse()

    def named(self, service: str, name: str) -> list[Sent]:
        """The spans of a service by their name."""
        return [each for each in self.spans if (each.service, each.name) == (service, name)]


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector until the block ends."""
    collector = Collector()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated
        collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(None).wait()
