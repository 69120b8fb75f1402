"""Sessions as messages of the control API."""

from __future__ import annotations

from multishadow.v1 import sessions_pb2 as pb
from multishadow_server.core.session_report import CandidateSessions, SessionReport
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.service.sessions import ListedSession, ShownSession, ShownTurn


def report_message(found: SessionReport) -> pb.SessionReport:
    """What was counted of sessions."""
    return pb.SessionReport(
        ended=found.ended,
        turns=found.turns,
        without_id=found.without_id,
        candidates=[_candidate(each) for each in found.candidates],
        lengths=[pb.SessionLength(turns=turns, sessions=sessions) for turns, sessions in found.lengths],
    )


def _candidate(found: CandidateSessions) -> pb.CandidateSessions:
    return pb.CandidateSessions(
        version=found.version,
        whole=found.whole,
        diverged=found.diverged,
        uncompared=found.uncompared,
        cut=found.cut,
        by_turn=[pb.TurnCounts(turn=each.turn, n=each.n, bad=each.bad, first=each.first) for each in found.by_turn],
        before=found.before,
        before_bad=found.before_bad,
        after=found.after,
        after_bad=found.after_bad,
    )


def listed(model: str, sessions: list[ListedSession]) -> pb.ListSessionsResponse:
    """Sessions, a line each."""
    return pb.ListSessionsResponse(model=model, sessions=[_line(each) for each in sessions])


def _line(found: ListedSession) -> pb.SessionLine:
    return pb.SessionLine(
        session_id=found.session_id,
        began_at=messages.moment(found.began_at),
        last_at=messages.moment(found.last_at),
        turns=found.turns,
        bad_turns=found.bad_turns,
        bad_by_version=found.bad_by_version,
        first_bad=found.first_bad,
    )


def shown(found: ShownSession) -> pb.GetSessionResponse:
    """One session's turns."""
    return pb.GetSessionResponse(
        model=found.model,
        session_id=found.session_id,
        live_version=found.live,
        candidates=found.candidates,
        turns=[_turn(each) for each in found.turns],
        numbered=found.numbered,
        protocol=found.protocol,
    )


def _turn(found: ShownTurn) -> pb.StoredTurn:
    stored = found.stored
    return pb.StoredTurn(
        turn=found.place,
        comparison_id=stored.comparison_id,
        request_id=stored.request_id,
        received_at=messages.moment(stored.received_at),
        request=stored.request,
        live_response=stored.response,
        payloads=stored.payloads,
        answers=[
            pb.TurnAnswer(
                version=each.version,
                outcome=each.outcome,
                reason=each.reason,
                detail=each.detail,
                similarity=each.similarity,
                response=each.response,
            )
            for each in stored.observations
        ],
    )
