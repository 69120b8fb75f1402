"""The part of the control API that is about dead letters."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import grpc.aio

from multishadow.v1 import deadletters_pb2 as pb
from multishadow.v1 import deadletters_pb2_grpc
from multishadow_server.core.dead_letters import LetterState
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.entrypoints.control_messages import moment
from multishadow_server.entrypoints.moments import seconds_of
from multishadow_server.errors import InvalidInput
from multishadow_server.service import dead_letters
from multishadow_server.service.ports import LetterFilter, LetterLine, LetterStore, StoredLetter

SERVICE = pb.DESCRIPTOR.services_by_name["DeadLetterService"].full_name


class DeadLetterServicer(deadletters_pb2_grpc.DeadLetterServiceServicer):
    """Answers DeadLetterService.

    Args:
        store: where dead letters are.
    """

    def __init__(self, store: LetterStore) -> None:
        self._store = store

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        deadletters_pb2_grpc.add_DeadLetterServiceServicer_to_server(self, server)

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Context) -> pb.ListDeadLettersResponse:
        """A page of them, newest first."""
        async with answering(context):
            page = await dead_letters.page(
                self._store, _filter_of(request.filter), before=request.before_id, size=request.page_size
            )
        return pb.ListDeadLettersResponse(
            dead_letters=[_message(line) for line in page.letters], next_before_id=page.next_before
        )

    async def GetDeadLetter(self, request: pb.GetDeadLetterRequest, context: Context) -> pb.GetDeadLetterResponse:
        """One with its payload."""
        async with answering(context):
            return _whole(await dead_letters.letter(self._store, request.id))

    async def CountDeadLetters(
        self, request: pb.CountDeadLettersRequest, context: Context
    ) -> pb.CountDeadLettersResponse:
        """How many there are."""
        async with answering(context):
            counts = await dead_letters.counts(self._store, _filter_of(request.filter))
        return pb.CountDeadLettersResponse(
            counts=[
                pb.DeadLetterCount(model=model, version=version, state=state, count=count)
                for (model, version, state), count in sorted(counts.items())
            ]
        )

    async def RetryDeadLetters(
        self, request: pb.RetryDeadLettersRequest, context: Context
    ) -> pb.RetryDeadLettersResponse:
        """Try them once more."""
        async with answering(context):
            retry = await dead_letters.retry(
                self._store, _filter_of(request.filter), actor=actor_of(request.actor, context)
            )
        return pb.RetryDeadLettersResponse(retry=retry.name, count=retry.count, impossible=retry.impossible)

    async def PurgeDeadLetters(
        self, request: pb.PurgeDeadLettersRequest, context: Context
    ) -> pb.PurgeDeadLettersResponse:
        """Delete some."""
        async with answering(context):
            purged, more = await dead_letters.purge(
                self._store, _filter_of(request.filter), actor=actor_of(request.actor, context)
            )
        return pb.PurgeDeadLettersResponse(purged=purged, more=more)


def _filter_of(message: pb.DeadLetterFilter) -> LetterFilter:
    """The filter that was asked for. Raises InvalidInput: there is no such state."""
    try:
        state = LetterState(message.state) if message.state else None
    except ValueError:
        raise InvalidInput(f"filter.state: {message.state!r} is none; allowed are {', '.join(LetterState)}") from None
    return LetterFilter(
        ids=tuple(message.ids),
        model=message.model,
        version=message.version,
        state=state,
        since=seconds_of("filter.since", message.since) if message.HasField("since") else None,
        retry=message.retry,
    )


def _message(line: LetterLine) -> pb.DeadLetter:
    return pb.DeadLetter(
        id=line.id,
        model=line.model,
        version=line.version,
        request_id=line.request_id,
        state=line.state,
        attempts=line.attempts,
        outcome=line.outcome,
        reason=line.reason,
        detail=line.detail,
        received_at=moment(line.received_at),
        created_at=moment(line.created_at),
        changed_at=moment(line.changed_at),
        next_attempt_at=moment(line.next_attempt_at),
        expires_at=moment(line.expires_at),
        epoch_id=line.epoch_id or 0,
        cut=line.cut,
        similarity=line.similarity,
    )


def _whole(letter: StoredLetter) -> pb.GetDeadLetterResponse:
    response = pb.GetDeadLetterResponse(dead_letter=_message(letter.line), request=letter.raw)
    if letter.capture is not None:
        capture = letter.capture
        response.session_id = capture.session_id
        response.method = capture.method
        response.live_version = capture.live
        response.revision = capture.revision
        response.request = capture.request
        response.response = capture.response
        for key, value in capture.metadata:
            response.metadata.add(key=key, value=value if isinstance(value, str) else quote(value))
    return response
