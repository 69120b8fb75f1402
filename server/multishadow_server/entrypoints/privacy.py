"""The part of the control API that is about stored traffic."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc.aio

from multishadow.v1 import privacy_pb2 as pb
from multishadow.v1 import privacy_pb2_grpc
from multishadow_server.entrypoints import control_messages, privacy_messages
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.service import privacy
from multishadow_server.service.ports import CaptureBacklog, ControlStore, TrafficStore

SERVICE = pb.DESCRIPTOR.services_by_name["PrivacyService"].full_name


class PrivacyServicer(privacy_pb2_grpc.PrivacyServiceServicer):
    """Answers PrivacyService.

    Args:
        store: where models are.
        traffic: where stored traffic is.
        backlog: the capture log; it may be away.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        store: ControlStore,
        traffic: TrafficStore,
        backlog: CaptureBacklog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._office = privacy.Office(store=store, traffic=traffic, backlog=backlog, clock=clock)

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        privacy_pb2_grpc.add_PrivacyServiceServicer_to_server(self, server)

    async def GetStoredTraffic(
        self, request: pb.GetStoredTrafficRequest, context: Context
    ) -> pb.GetStoredTrafficResponse:
        """What is stored, and in which form."""
        async with answering(context):
            model, found = await privacy.stored(self._office, model=request.model)
            waiting = await self._office.waiting()
        return pb.GetStoredTrafficResponse(
            model=model.name,
            terms=privacy_messages.terms_message(model.privacy),
            stored=[privacy_messages.stored_message(each) for each in found],
            log_messages_waiting=waiting,
        )

    async def ApplyPrivacy(self, request: pb.ApplyPrivacyRequest, context: Context) -> pb.ApplyPrivacyResponse:
        """Hold what is stored to the present terms."""
        async with answering(context):
            model, rewritten = await privacy.apply(
                self._office,
                model=request.model,
                actor=actor_of(request.actor, context),
                reason=control_messages.free_text("reason", request.reason),
            )
            waiting = await self._office.waiting()
        return privacy_messages.apply_response(model, rewritten, waiting=waiting)

    async def PurgeStored(self, request: pb.PurgeStoredRequest, context: Context) -> pb.PurgeStoredResponse:
        """Erase stored traffic."""
        async with answering(context):
            model, erased = await privacy.purge(
                self._office,
                model=request.model,
                wish=privacy_messages.wish_of(request),
                actor=actor_of(request.actor, context),
                reason=control_messages.free_text("reason", request.reason),
                dry_run=request.dry_run,
            )
            waiting = await self._office.waiting()
        return pb.PurgeStoredResponse(
            model=model.name,
            comparisons=erased.comparisons,
            answers=erased.answers,
            labels=erased.labels,
            dead_letters=erased.dead_letters,
            bytes_freed=erased.bytes_freed,
            log_messages_waiting=waiting,
        )
