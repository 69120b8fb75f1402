"""The part of the control API that sends requests again."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

import grpc.aio
from google.protobuf.message import DecodeError

from multishadow.v1 import prediction_pb2, replay_pb2_grpc
from multishadow.v1 import replay_pb2 as pb
from multishadow_server.core import replay, writes
from multishadow_server.core.protocols import Protocol
from multishadow_server.core.replay import Pace, Replayable, ReplayResult
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.entrypoints.moments import seconds_of
from multishadow_server.errors import InvalidInput
from multishadow_server.service import replaying
from multishadow_server.service.ports import Comparer, ControlStore, ModelGateway, RequestFilter, StoredRequests
from multishadow_server.service.probing import PREDICT
from multishadow_server.service.replaying import Replaying, Target
from multishadow_server.structs import json_of

SERVICE = pb.DESCRIPTOR.services_by_name["ReplayService"].full_name


class ReplayServicer(replay_pb2_grpc.ReplayServiceServicer):
    """Answers ReplayService.

    Args:
        store: tells versions, and takes the audit log's lines.
        stored: where requests of stored comparisons are.
        gateway: calls versions.
        comparer: compares answers.
    """

    def __init__(
        self, *, store: ControlStore, stored: StoredRequests, gateway: ModelGateway, comparer: Comparer
    ) -> None:
        self._store = store
        self._stored = stored
        self._gateway = gateway
        self._comparer = comparer

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        replay_pb2_grpc.add_ReplayServiceServicer_to_server(self, server)

    async def Replay(
        self, requests: AsyncIterator[pb.ReplayRequest], context: Context
    ) -> AsyncIterator[pb.ReplayResponse]:
        """Send requests again, and tell what became of each as it ends."""
        async with answering(context):
            terms = await _terms(requests)
            pace = _pace(terms)
            target = await replaying.target_of(
                self._store, model=terms.model, version=terms.version, router=terms.router
            )
            if target.protocol is not Protocol.MULTISHADOW and not terms.HasField("stored"):
                raise InvalidInput(
                    f"requests: {target.model} has `protocol: {target.protocol}`, and a file holds requests of "
                    "PredictionService; replay stored ones (`--stored`)"
                )
            keys = await replaying.find(self._stored, _filter(terms)) if terms.HasField("stored") else None
            source = "the caller" if keys is None else f"{len(keys)} stored requests"
            actor = actor_of(terms.actor, context)
            await replaying.put_on_record(self._store, target, pace, source=source, actor=actor)
            total = 0 if keys is None else len(keys)
            yield pb.ReplayResponse(started=pb.ReplayStarted(total=total, target=target.described))
            running = Replaying(self._gateway, self._comparer, target, pace)
            given = _given(requests, target) if keys is None else replaying.load(self._stored, keys)
            async for result in running.results(given):
                yield pb.ReplayResponse(result=_result(result, with_response=terms.with_responses))
            yield pb.ReplayResponse(
                ended=pb.ReplayEnded(sent=running.sent, gone=max(0, total - running.sent - running.withheld))
            )


async def _terms(requests: AsyncIterator[pb.ReplayRequest]) -> pb.ReplayTerms:
    async for request in requests:
        if request.WhichOneof("message") != "terms":
            break
        return request.terms
    raise InvalidInput("the first message of a replay says how to replay: `terms`")


def _pace(terms: pb.ReplayTerms) -> Pace:
    pace = Pace(speed=terms.speed, rate=terms.rate, concurrency=terms.concurrency or replay.DEFAULT_CONCURRENCY)
    replay.check_pace(pace)
    return pace


def _filter(terms: pb.ReplayTerms) -> RequestFilter:
    stored = terms.stored
    return RequestFilter(
        model=terms.model,
        experiment_id=stored.experiment_id,
        since=seconds_of("stored.since", stored.since) if stored.HasField("since") else None,
        until=seconds_of("stored.until", stored.until) if stored.HasField("until") else None,
        diverged=stored.diverged,
        most=stored.most or replay.DEFAULT_MOST,
    )


async def _given(requests: AsyncIterator[pb.ReplayRequest], target: Target) -> AsyncIterator[Replayable]:
    index = 0
    async for message in requests:
        yield _replayable(index, message, target)
        index += 1


def _replayable(index: int, message: pb.ReplayRequest, target: Target) -> Replayable:
    """Raises InvalidInput: it is no request, or its known answer is none."""
    given = message.request
    try:
        request = prediction_pb2.PredictRequest.FromString(given.request)
        prediction_pb2.PredictResponse.FromString(given.response)
    except DecodeError as error:
        raise InvalidInput(f"request {index}: its bytes cannot be read: {error}") from error
    if message.WhichOneof("message") != "request" or request.WhichOneof("input") is None:
        raise InvalidInput(f"request {index}: it sets no input")
    request.model = target.model
    return Replayable(
        request=request.SerializeToString(),
        request_id=request.request_id,
        session_id=request.session_id,
        method=PREDICT,
        response=given.response,
        at=seconds_of("requests.at", given.at) if given.HasField("at") else None,
        latency=given.latency_ms / 1000 if given.HasField("latency_ms") else None,
        marked=_is_marked(request),
    )


def _is_marked(request: prediction_pb2.PredictRequest) -> bool:
    return writes.MARK in request.attributes.fields and writes.is_marked((), json_of(request.attributes))


def _result(result: ReplayResult, *, with_response: bool) -> pb.ReplayResult:
    recorded = result.replayed.latency
    return pb.ReplayResult(
        index=result.index,
        request_id=result.replayed.request_id,
        session_id=result.replayed.session_id,
        outcome=result.outcome,
        reason=result.reason,
        detail=result.detail,
        similarity=result.similarity,
        latency_ms=0.0 if math.isnan(result.latency) else result.latency * 1000,
        recorded_latency_ms=None if recorded is None else recorded * 1000,
        late_ms=result.late * 1000,
        response=result.response if with_response else b"",
        version=result.version,
    )
