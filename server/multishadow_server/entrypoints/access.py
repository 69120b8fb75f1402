"""The access service over gRPC: messages in, use cases, messages out."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from multishadow.v1 import access_pb2 as pb
from multishadow.v1 import access_pb2_grpc
from multishadow_server.core.access import DEFAULT_GRACE, Token
from multishadow_server.entrypoints import callers
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.errors import InvalidInput
from multishadow_server.service import audit, tokens
from multishadow_server.service.ports import AuditLine, AuditLog, AuditQuery, TokenStore
from multishadow_server.structs import fill

SERVICE = pb.DESCRIPTOR.services_by_name["AccessService"].full_name


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Answers AccessService.

    Args:
        store: where tokens are.
        log: the audit log.
        changed: called after each change of a token.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        store: TokenStore,
        log: AuditLog,
        *,
        changed: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._changed = changed
        self._store = store
        self._log = log
        self._clock = clock

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        access_pb2_grpc.add_AccessServiceServicer_to_server(self, server)

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        """Make one."""
        async with answering(context):
            issued = await tokens.create(
                self._store,
                name=request.name,
                role=request.role,
                life=request.expires_in_seconds if request.HasField("expires_in_seconds") else None,
                actor=actor_of(request.actor, context),
            )
            await self._changed()
        return pb.CreateTokenResponse(token=self._token(issued.token), text=issued.text)

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        """Those that there are."""
        async with answering(context):
            found = await tokens.list_tokens(self._store, all_of_them=request.all)
        return pb.ListTokensResponse(tokens=[self._token(token) for token in found])

    async def RotateToken(self, request: pb.RotateTokenRequest, context: Context) -> pb.RotateTokenResponse:
        """Give one another secret."""
        async with answering(context):
            issued = await tokens.rotate(
                self._store,
                request.token,
                grace=request.grace_seconds if request.HasField("grace_seconds") else DEFAULT_GRACE,
                life=request.expires_in_seconds if request.HasField("expires_in_seconds") else None,
                actor=actor_of(request.actor, context),
            )
            await self._changed()
        return pb.RotateTokenResponse(token=self._token(issued.token), text=issued.text)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        """End one."""
        async with answering(context):
            token = await tokens.revoke(
                self._store,
                request.token,
                reason=messages.free_text("reason", request.reason),
                actor=actor_of(request.actor, context),
            )
            await self._changed()
        return pb.RevokeTokenResponse(token=self._token(token))

    async def GetCaller(self, request: pb.GetCallerRequest, context: Context) -> pb.GetCallerResponse:  # noqa: ARG002
        """Who asks."""
        caller = callers.current.get()
        if caller is None:
            return pb.GetCallerResponse()
        return pb.GetCallerResponse(name=caller.name, role=caller.role, token_id=caller.shown.id)

    async def ListAudit(self, request: pb.ListAuditRequest, context: Context) -> pb.ListAuditResponse:
        """Who did what."""
        async with answering(context):
            found = await audit.lines(self._log, _query(request))
        return pb.ListAuditResponse(lines=[_line(line) for line in found])

    def _token(self, token: Token) -> pb.Token:
        return pb.Token(
            id=token.id,
            name=token.name,
            role=token.role,
            state=token.state(self._clock()),
            created_by=token.created_by,
            created_at=messages.moment(token.created_at),
            expires_at=messages.moment(token.expires_at),
            rotated_at=messages.moment(token.rotated_at),
            former_until=messages.moment(token.former_until),
            last_used_at=messages.moment(token.last_used_at),
            revoked_at=messages.moment(token.revoked_at),
            revoked_by=token.revoked_by,
        )


def _query(request: pb.ListAuditRequest) -> AuditQuery:
    return AuditQuery(
        since=_moment("since", request.since) if request.HasField("since") else None,
        until=_moment("until", request.until) if request.HasField("until") else None,
        actor=messages.free_text("actor", request.actor),
        action=messages.free_text("action", request.action),
        subject=messages.free_text("subject", request.subject),
        before=request.before if request.HasField("before") else None,
        after=request.after if request.HasField("after") else None,
        most=request.most,
    )


def _moment(field: str, at: Timestamp) -> float:
    """Seconds since the Unix epoch. Raises InvalidInput outside of the years that PostgreSQL and Python both know."""
    try:
        return at.ToDatetime(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{field}: {at.seconds} s is no time between the years 1 and 9999") from error


def _line(line: AuditLine) -> pb.AuditLine:
    message = pb.AuditLine(
        id=line.id, at=messages.moment(line.at), actor=line.actor, action=line.action, subject=line.subject
    )
    fill(message.detail, line.detail)
    return message
