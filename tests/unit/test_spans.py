"""Spans: what is told of a request, and when traces are made at all."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, cast

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, Tracer
from test_live_path import FakeGateway

from fakes import ScriptedStream
from multishadow_server.adapters.traced_calls import TracedGateway
from multishadow_server.adapters.tracing import TraceOfRecord, provider_of
from multishadow_server.app import tracing
from multishadow_server.core.capture import Metadata
from multishadow_server.core.protocols import PREDICT, Protocol
from multishadow_server.core.request_ids import tellable
from multishadow_server.entrypoints.door import Asked, Door, Method
from multishadow_server.entrypoints.traced_door import TracedDoor
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service.live_path import LiveAnswer, LivePath, LiveRequest
from multishadow_server.service.ports import Answer
from multishadow_server.service.spans import parent_of
from multishadow_server.settings import Settings

OURS = "0f8fad5b-d9cb-469f-a165-70867728950e"
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
METHOD = Method(name=PREDICT, protocol=Protocol.MULTISHADOW, read=lambda body: Asked("spam", body.decode(), "", {}))


class Scene:
    """A tracer whose spans are kept."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = provider.get_tracer("test")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.spans
        return span


class Aborted(Exception):
    """What ends a call."""


class Call:
    """A call to a router."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata
        self.trailing: Metadata = ()

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, trailing: Metadata) -> None:
        self.trailing = trailing

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        raise Aborted(code, details, trailing)


class Path:
    """A live path that answers, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.asked: list[LiveRequest] = []

    async def answer(self, request: LiveRequest) -> LiveAnswer:
        self.asked.append(request)
        if self._error is not None:
            raise self._error
        return LiveAnswer(answer=Answer(status_code=0, response=b"!"), version="base", revision=7)


def door(scene: Scene, path: Path) -> TracedDoor:
    return TracedDoor(cast("LivePath", path), max_message_bytes=1_000, tracer=scene.tracer)


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_continues_its_callers_trace_and_says_who_answered() -> None:
    scene, path = Scene(), Path()
    call: Any = Call(("traceparent", SAMPLED), ("x-team", "blue"))
    assert await door(scene, path).answer(METHOD, OURS.encode(), call) == b"!"
    span = scene.only
    assert span.name == "multishadow.v1.PredictionService/Predict"
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == SAMPLED[3:-3]
    assert attributes(span) == {
        "rpc.system": "grpc", "rpc.service": "multishadow.v1.PredictionService", "rpc.method": "Predict",
        "rpc.grpc.status_code": 0, "multishadow.version": "base", "multishadow.revision": "7",
        "multishadow.request_id": OURS,
    }  # fmt: skip
    # Who reads the metadata from here on is told of this span, and of everything else as it came.
    seen = dict(path.asked[0].metadata)
    context = span.get_span_context()
    assert context is not None
    assert seen == {"x-team": "blue", "traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-01"}


@pytest.mark.parametrize(
    ("error", "number", "status"),
    [
        (NotFound("there is no such model"), 5, StatusCode.UNSET),
        (ValueError("alice@example.com"), 13, StatusCode.ERROR),
    ],
)
async def test_a_refusal_is_told_without_its_words_and_a_callers_fault_is_no_error(
    error: Exception, number: int, status: StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    call: Any = Call()
    with caplog.at_level(logging.CRITICAL), pytest.raises(Aborted):
        await door(scene, Path(error)).answer(METHOD, b"a-callers-own-id", call)
    span = scene.only
    assert attributes(span)["rpc.grpc.status_code"] == number
    assert "multishadow.request_id" not in attributes(span)
    assert (span.status.status_code, span.status.description, span.events) == (status, None, ())


def test_only_ids_that_say_nothing_of_who_asks_are_told() -> None:
    assert tellable(OURS) == OURS
    assert tellable("alice@example.com") == tellable("") == tellable(f"{OURS}\n") == ""


async def test_a_version_gets_its_own_calls_context_in_place_of_what_came() -> None:
    scene = Scene()
    sent: list[Metadata] = []

    class Gateway(FakeGateway):
        async def call(
            self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
        ) -> Answer:
            sent.append(metadata)
            return Answer(status_code=14)

    gateway = TracedGateway(Gateway(), scene.tracer)
    metadata = (("traceparent", SAMPLED), ("tracestate", "a=b"), ("x-team", "blue"))
    await gateway.call("10.0.0.1:9", PREDICT, b"?", metadata=metadata, deadline=None)
    span = scene.only
    context = span.get_span_context()
    assert context is not None
    # It is nobody's child here, so that its trace is its own; the flags say that it is sampled, and its id random.
    own = f"00-{context.trace_id:032x}-{context.span_id:016x}-03"
    assert sent == [(("x-team", "blue"), ("traceparent", own))]
    assert attributes(span)["server.address"] == "10.0.0.1:9"
    assert attributes(span)["rpc.grpc.status_code"] == 14
    assert span.status.status_code is StatusCode.ERROR


async def test_a_call_that_is_given_up_ends_its_span() -> None:
    scene, gateway = Scene(), FakeGateway()
    gateway.hangs = True
    traced = TracedGateway(gateway, scene.tracer)
    call = asyncio.create_task(traced.call("a", PREDICT, b"?", metadata=(), deadline=None))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert attributes(scene.only)["multishadow.cancelled"] is True


async def test_a_streams_span_ends_with_its_last_message_or_when_it_is_given_up() -> None:
    scene, gateway = Scene(), FakeGateway()
    gateway.streams = {name: ScriptedStream((b"1", b"2"), Answer(status_code=0)) for name in ("whole", "half")}
    traced = TracedGateway(gateway, scene.tracer)
    whole = traced.stream("whole", PREDICT, b"?", metadata=(), deadline=None)
    while await whole.next() is not None:
        assert scene.spans == ()
    assert attributes(scene.only)["rpc.grpc.status_code"] == 0
    half = traced.stream("half", PREDICT, b"?", metadata=(), deadline=None)
    await half.next()
    half.cancel()
    half.cancel()
    assert [attributes(each).get("multishadow.cancelled") for each in scene.spans] == [None, True]


def test_a_line_of_the_log_says_which_span_it_belongs_to() -> None:
    scene = Scene()
    record = logging.LogRecord("name", logging.ERROR, __file__, 1, "it failed", (), None)
    assert TraceOfRecord().filter(record)
    assert not hasattr(record, "trace_id")
    with scene.tracer.start_as_current_span("work", context=parent_of((("traceparent", SAMPLED),))):
        TraceOfRecord().filter(record)
    assert f"{record.trace_id}" == SAMPLED[3:35]  # type: ignore[attr-defined]  # the filter's


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, False),
    ],
)
def test_the_environment_says_whether_there_are_traces(environment: Mapping[str, str], wanted: bool) -> None:
    assert tracing.wanted(environment) is wanted


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_what_cannot_be_had_is_refused_by_its_variables_name(environment: Mapping[str, str]) -> None:
    with pytest.raises(InvalidInput, match=f"^{[*environment][-1]}="):
        tracing.wanted(environment)


async def test_without_traces_the_parts_are_what_they_would_be_anyway() -> None:
    async with AsyncExitStack() as stack:
        parts = tracing.begin("router", Settings(), stack)
    gateway = FakeGateway()
    assert parts.gateway(gateway) is gateway
    assert type(parts.door(cast("LivePath", Path()), max_message_bytes=1)) is Door


async def test_traces_without_the_extra_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    # As it is where the extra is not installed: the module is not to be found.
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("multishadow_server.adapters.tracing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("multishadow_server.adapters.tracing")
    async with AsyncExitStack() as stack:
        with pytest.raises(FailedPrecondition, match=r"pip install 'multishadow\[tracing\]'"):
            tracing.begin("router", Settings(), stack)


def test_a_worker_samples_what_its_requests_router_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shadows")
    provider = provider_of("worker", "worker-1")
    try:
        assert provider.resource.attributes["service.name"] == "shadows"
        assert provider.resource.attributes["service.instance.id"] == "worker-1"
        assert not provider.get_tracer("t").start_span("alone").is_recording()
    finally:
        provider.shutdown()
