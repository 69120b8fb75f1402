"""The part of the control API that is about sessions."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio

from multishadow.v1 import sessions_pb2 as pb
from multishadow.v1 import sessions_pb2_grpc
from multishadow_server.entrypoints import session_messages
from multishadow_server.entrypoints.answering import Context, answering
from multishadow_server.service import sessions
from multishadow_server.service.ports import ControlStore, SessionRecords

SERVICE = pb.DESCRIPTOR.services_by_name["SessionService"].full_name


class SessionServicer(sessions_pb2_grpc.SessionServiceServicer):
    """Answers SessionService.

    Args:
        store: models and experiments.
        records: stored comparisons, by session.
    """

    def __init__(self, *, store: ControlStore, records: SessionRecords) -> None:
        self._store = store
        self._records = records

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        sessions_pb2_grpc.add_SessionServiceServicer_to_server(self, server)

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        """Sessions in which a candidate was bad."""
        async with answering(context):
            model, found = await sessions.list_sessions(
                self._store,
                self._records,
                model=request.model,
                version=request.version,
                experiment_id=request.experiment_id,
                most=request.most,
            )
        return session_messages.listed(model, found)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        """One session's stored turns."""
        async with answering(context):
            found = await sessions.get_session(
                self._store,
                self._records,
                model=request.model,
                session_id=request.session_id,
                experiment_id=request.experiment_id,
            )
        return session_messages.shown(found)
