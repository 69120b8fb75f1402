"""The part of the control API that holds back copies."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio

from multishadow.v1 import control_pb2, shadowing_pb2_grpc
from multishadow.v1 import shadowing_pb2 as pb
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.service import pausing
from multishadow_server.service.models import ModelView
from multishadow_server.service.ports import ControlStore

SERVICE = pb.DESCRIPTOR.services_by_name["ShadowingService"].full_name


class ShadowingServicer(shadowing_pb2_grpc.ShadowingServiceServicer):
    """Answers ShadowingService.

    Args:
        store: where versions are.
    """

    def __init__(self, store: ControlStore) -> None:
        self._store = store

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        shadowing_pb2_grpc.add_ShadowingServiceServicer_to_server(self, server)

    async def PauseShadowing(self, request: pb.PauseShadowingRequest, context: Context) -> pb.PauseShadowingResponse:
        """Let nobody call a version as a shadow."""
        async with answering(context):
            view, revision = await pausing.pause(
                self._store,
                model=request.model,
                version=request.version,
                seconds=float(request.seconds) if request.HasField("seconds") else None,
                actor=actor_of(request.actor, context),
                reason=messages.free_text("reason", request.reason),
            )
        return pb.PauseShadowingResponse(version=_version(view, request.version), revision=revision)

    async def ResumeShadowing(self, request: pb.ResumeShadowingRequest, context: Context) -> pb.ResumeShadowingResponse:
        """End a pause."""
        async with answering(context):
            view, revision = await pausing.resume(
                self._store,
                model=request.model,
                version=request.version,
                actor=actor_of(request.actor, context),
                reason=messages.free_text("reason", request.reason),
            )
        return pb.ResumeShadowingResponse(version=_version(view, request.version), revision=revision)


def _version(view: ModelView, name: str) -> control_pb2.Version:
    return next(message for message in messages.version_messages(view) if message.name == name)
