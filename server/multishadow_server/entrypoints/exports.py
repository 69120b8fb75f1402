"""The part of the control API that finds stored answers, and hands them out."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence

import grpc.aio
from google.protobuf.struct_pb2 import Struct

from multishadow.v1 import export_pb2 as pb
from multishadow.v1 import export_pb2_grpc
from multishadow_server.core.observation import Outcome
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.entrypoints.control_messages import free_text
from multishadow_server.entrypoints.moments import moment, seconds_of
from multishadow_server.entrypoints.review_messages import verdict_message
from multishadow_server.errors import InvalidInput
from multishadow_server.service import exporting
from multishadow_server.service.exporting import Exported, Exports, Subject
from multishadow_server.service.ports import AnswerFilter, AnswerOrder, ControlStore
from multishadow_server.structs import fill

SERVICE = pb.DESCRIPTOR.services_by_name["ExportService"].full_name

_ORDERS: Mapping[int, AnswerOrder] = {
    pb.ANSWER_ORDER_UNSPECIFIED: AnswerOrder.NEWEST,
    pb.ANSWER_ORDER_SIMILARITY: AnswerOrder.SIMILARITY,
    pb.ANSWER_ORDER_LATENCY: AnswerOrder.LATENCY,
}


class ExportServicer(export_pb2_grpc.ExportServiceServicer):
    """Answers ExportService.

    Args:
        store: where the audit log is.
        exports: finds answers.
    """

    def __init__(self, *, store: ControlStore, exports: Exports) -> None:
        self._store = store
        self._exports = exports

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        export_pb2_grpc.add_ExportServiceServicer_to_server(self, server)

    async def ListAnswers(self, request: pb.ListAnswersRequest, context: Context) -> pb.ListAnswersResponse:
        """A page of them, without payloads."""
        async with answering(context):
            order = _ORDERS.get(request.order)
            if order is None:
                raise InvalidInput(f"order: say which: {', '.join(pb.AnswerOrder.keys())}")
            subject, which = await self._chosen(request.filter)
            page, cursor = await self._exports.listed(
                subject, which, order, cursor=request.cursor, size=request.page_size
            )
        return pb.ListAnswersResponse(answers=[_message(each) for each in page], next_cursor=cursor)

    async def GetAnswers(self, request: pb.GetAnswersRequest, context: Context) -> pb.GetAnswersResponse:
        """One comparison's, with payloads."""
        async with answering(context):
            found = await self._exports.of_comparison(request.comparison_id)
        return pb.GetAnswersResponse(answers=[_message(each) for each in found])

    async def Export(self, request: pb.ExportRequest, context: Context) -> AsyncIterator[pb.ExportResponse]:
        """All of them, with payloads. The caller's pace is ours: the next page is read when this one was sent."""
        async with answering(context):
            subject, which = await self._chosen(request.filter)
            cursor = request.cursor
            await self._put_on_record(request, subject, actor=actor_of(request.actor, context))
            async for each in self._exports.export(subject, which, cursor=cursor):
                cursor = each.cursor
                yield pb.ExportResponse(answer=_message(each), cursor=cursor)
            yield pb.ExportResponse(cursor=cursor)

    async def _chosen(self, message: pb.AnswerFilter) -> tuple[Subject, AnswerFilter]:
        subject = await self._exports.subject(model=message.model, experiment_id=message.experiment_id)
        return subject, _filter_of(message, subject)

    async def _put_on_record(self, request: pb.ExportRequest, subject: Subject, *, actor: str) -> None:
        """Payloads leave: who took which out is on record before the first one does."""
        if request.cursor:
            exporting.place_of(request.cursor, None)
        asked = request.filter
        detail = {
            "experiment": asked.experiment_id,
            "version": asked.version,
            "outcomes": list(asked.outcomes),
            "resumed": bool(request.cursor),
        }
        async with self._store.change(actor, experiments=False) as change:
            await change.audit("export", subject.model.name, {name: said for name, said in detail.items() if said})


def _filter_of(message: pb.AnswerFilter, subject: Subject) -> AnswerFilter:
    """The filter that was asked for. Raises InvalidInput."""
    attributes = {
        free_text("filter.attributes", name): free_text("filter.attributes", value)
        for name, value in message.attributes.items()
    }
    exporting.check_attributes(attributes)
    return AnswerFilter(
        epochs=tuple(subject.epochs),
        version=free_text("filter.version", message.version),
        outcomes=tuple(_outcome(outcome) for outcome in message.outcomes),
        attributes=tuple(sorted(attributes.items())),
        least_similarity=_similarity(message, "least_similarity"),
        most_similarity=_similarity(message, "most_similarity"),
        reviewed=message.reviewed if message.HasField("reviewed") else None,
        since=seconds_of("filter.since", message.since) if message.HasField("since") else None,
        until=seconds_of("filter.until", message.until) if message.HasField("until") else None,
        sample_only=message.sample_only,
    )


def _outcome(name: str) -> Outcome:
    try:
        return Outcome(name)
    except ValueError:
        raise InvalidInput(f"filter.outcomes: {name!r} is none; allowed are {', '.join(Outcome)}") from None


def _similarity(message: pb.AnswerFilter, name: str) -> float | None:
    if not message.HasField(name):  # type: ignore[arg-type]  # a name of the message's, which the stubs list
        return None
    value: float = getattr(message, name)
    if not math.isfinite(value):
        raise InvalidInput(f"filter.{name}: {value:g} is no similarity; they lie between 0 and 1")
    return value


def _message(exported: Exported) -> pb.StoredAnswer:
    answer, epoch, seen = exported.answer, exported.epoch, exported.answer.seen
    message = pb.StoredAnswer(
        comparison_id=answer.place.id,
        model=epoch.model,
        experiment_id=epoch.experiment_id,
        epoch=epoch.number,
        request_id=answer.request_id,
        session_id=answer.session_id,
        received_at=moment(answer.received_at),
        method=answer.method,
        kept_because=answer.kept_because,
        payloads=answer.payloads,
        protocol=epoch.comparator.protocol,
        live_version=epoch.live,
        live_latency_ms=1000 * answer.live_latency,
        live_status_code=answer.live_status_code,
        version=seen.version,
        outcome=seen.outcome,
        reason=seen.reason,
        detail=seen.detail,
        similarity=seen.similarity,
        latency_ms=None if seen.latency is None else 1000 * seen.latency,
        verdict=verdict_message(answer.review.verdict if answer.review else None),
        reviewed_by=answer.review.by if answer.review else "",
        request=answer.request,
        live_response=answer.live_response,
        response=seen.response,
    )
    fill(message.attributes, answer.attributes)
    if answer.labelled:
        holder = Struct()
        fill(holder, {"label": answer.label})
        message.label.CopyFrom(holder.fields["label"])
    return message
