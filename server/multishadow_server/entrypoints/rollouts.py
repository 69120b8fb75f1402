"""The part of the control API that is about rollouts."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import grpc.aio

from multishadow.v1 import rollouts_pb2 as pb
from multishadow.v1 import rollouts_pb2_grpc
from multishadow_server.core.rollout import Rollout
from multishadow_server.entrypoints import control_messages, rollout_messages
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.service import acknowledgement, rollout_planning, rollouts
from multishadow_server.service.ports import ControlStore, RolloutStore, VersionProbe

SERVICE = pb.DESCRIPTOR.services_by_name["RolloutService"].full_name


class _Request(Protocol):
    """What pausing, resuming, stepping on and aborting are asked with."""

    model: str
    actor: str
    reason: str


class RolloutServicer(rollouts_pb2_grpc.RolloutServiceServicer):
    """Answers RolloutService.

    Args:
        store: flags, experiments, processes.
        records: rollouts and live counts.
        probe: connects to versions before they go live.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        store: ControlStore,
        records: RolloutStore,
        probe: VersionProbe,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._records = records
        self._probe = probe
        self._clock = clock

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        rollouts_pb2_grpc.add_RolloutServiceServicer_to_server(self, server)

    async def PlanRollout(self, request: pb.PlanRolloutRequest, context: Context) -> pb.PlanRolloutResponse:
        """What a rollout would be."""
        async with answering(context):
            proposal = await rollout_planning.propose(
                self._store, self._records, self._probe, rollout_messages.wish_of(request.wish), clock=self._clock
            )
        return rollout_messages.plan_response(proposal)

    async def StartRollout(self, request: pb.StartRolloutRequest, context: Context) -> pb.StartRolloutResponse:
        """Begin one."""
        async with answering(context):
            rollout = await rollouts.start(
                self._store,
                self._records,
                self._probe,
                rollout_messages.wish_of(request.wish),
                actor=actor_of(request.wish.actor, context),
                clock=self._clock,
            )
        return pb.StartRolloutResponse(rollout=rollout_messages.rollout_message(rollout))

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        """Where one stands."""
        async with answering(context):
            view = await rollouts.get(self._store, self._records, model=request.model, rollout_id=request.id)
        return rollout_messages.get_response(view)

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Context) -> pb.ListRolloutsResponse:
        """Of one model, or of all."""
        async with answering(context):
            found = await rollouts.list_rollouts(self._store, self._records, model=request.model)
        return pb.ListRolloutsResponse(rollouts=[rollout_messages.rollout_message(each) for each in found])

    async def PauseRollout(self, request: pb.PauseRolloutRequest, context: Context) -> pb.PauseRolloutResponse:
        """Let it stay at its stage."""
        return pb.PauseRolloutResponse(rollout=await self._change(rollouts.pause, request, context))

    async def ResumeRollout(self, request: pb.ResumeRolloutRequest, context: Context) -> pb.ResumeRolloutResponse:
        """Go on with it."""
        return pb.ResumeRolloutResponse(rollout=await self._change(rollouts.resume, request, context))

    async def StepRollout(self, request: pb.StepRolloutRequest, context: Context) -> pb.StepRolloutResponse:
        """Go to the next stage now."""
        return pb.StepRolloutResponse(rollout=await self._change(rollouts.step, request, context))

    async def AbortRollout(self, request: pb.AbortRolloutRequest, context: Context) -> pb.AbortRolloutResponse:
        """End it."""
        return pb.AbortRolloutResponse(rollout=await self._change(rollouts.abort, request, context))

    async def GetAcknowledgement(
        self, request: pb.GetAcknowledgementRequest, context: Context
    ) -> pb.GetAcknowledgementResponse:
        """Which routers act on a revision, and who answered live requests since."""
        async with answering(context):
            served = await acknowledgement.serving(
                self._store, self._records, model=request.model, revision=request.revision
            )
            now = await self._records.now()
            routers = await acknowledgement.acknowledged(self._store, request.revision, now=now)
        return rollout_messages.acknowledgement_response(routers, served)

    async def _change(
        self, change: Callable[..., Awaitable[Rollout]], request: _Request, context: Context
    ) -> pb.Rollout:
        async with answering(context):
            rollout = await change(
                self._store,
                self._records,
                model=request.model,
                actor=actor_of(request.actor, context),
                reason=control_messages.free_text("reason", request.reason),
            )
        return rollout_messages.rollout_message(rollout)
