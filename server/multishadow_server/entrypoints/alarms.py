"""The part of the control API that is about probes and alarms."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc.aio

from multishadow.v1 import alarms_pb2 as pb
from multishadow.v1 import alarms_pb2_grpc
from multishadow_server.entrypoints import control_messages, probe_messages
from multishadow_server.entrypoints.alarm_messages import alarm_message
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.entrypoints.moments import moment
from multishadow_server.service import probing, watching
from multishadow_server.service.ports import AlarmStore, ControlStore, ProbeStore

SERVICE = pb.DESCRIPTOR.services_by_name["AlarmService"].full_name
DEFAULT_MOST = 50


class AlarmServicer(alarms_pb2_grpc.AlarmServiceServicer):
    """Answers AlarmService.

    Args:
        store: tells which models there are.
        alarms: where alarms are.
        probes: where it is kept how versions stand with probes.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self, *, store: ControlStore, alarms: AlarmStore, probes: ProbeStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._alarms = alarms
        self._probes = probes
        self._clock = clock

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        alarms_pb2_grpc.add_AlarmServiceServicer_to_server(self, server)

    async def ListAlarms(self, request: pb.ListAlarmsRequest, context: Context) -> pb.ListAlarmsResponse:
        """Those that are on."""
        async with answering(context):
            found = await watching.list_alarms(self._store, self._alarms, model=request.model)
        return pb.ListAlarmsResponse(alarms=map(alarm_message, found), read_at=moment(self._clock()))

    async def ListAlarmHistory(
        self, request: pb.ListAlarmHistoryRequest, context: Context
    ) -> pb.ListAlarmHistoryResponse:
        """On or over."""
        async with answering(context):
            found = await watching.history(
                self._store, self._alarms, model=request.model, most=request.most or DEFAULT_MOST
            )
        return pb.ListAlarmHistoryResponse(alarms=map(alarm_message, found))

    async def AcknowledgeAlarms(
        self, request: pb.AcknowledgeAlarmsRequest, context: Context
    ) -> pb.AcknowledgeAlarmsResponse:
        """Somebody knows of them."""
        async with answering(context):
            done = await watching.acknowledge(
                self._store,
                self._alarms,
                ids=request.ids,
                model=request.model,
                actor=actor_of(request.actor, context),
                note=control_messages.free_text("note", request.note),
            )
        return pb.AcknowledgeAlarmsResponse(alarms=map(alarm_message, done))

    async def ListProbes(self, request: pb.ListProbesRequest, context: Context) -> pb.ListProbesResponse:
        """How every version stands with every probe."""
        async with answering(context):
            views = await probing.list_probes(self._store, self._probes, model=request.model, answers=True)
        return pb.ListProbesResponse(
            standings=[probe_messages.standing_message(view) for view in views], read_at=moment(self._clock())
        )

    async def ListProbeChanges(
        self, request: pb.ListProbeChangesRequest, context: Context
    ) -> pb.ListProbeChangesResponse:
        """What became of a probe."""
        async with answering(context):
            changes = await probing.probe_changes(
                self._store,
                self._probes,
                model=request.model,
                version=request.version,
                probe=request.probe,
                most=min(request.most or DEFAULT_MOST, watching.MOST_LISTED),
            )
        return pb.ListProbeChangesResponse(changes=[probe_messages.change_message(*each) for each in changes])
