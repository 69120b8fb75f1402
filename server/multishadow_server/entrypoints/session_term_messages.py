"""How a model's requests form sessions, as a message of the control API."""

from __future__ import annotations

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core import session_terms
from multishadow_server.core.session_terms import SessionTerms


def terms_of(message: pb.SessionTerms) -> SessionTerms:
    """The terms that were applied; an `idle` of 0 ends sessions. Raises InvalidInput: no such unit."""
    default = SessionTerms()
    return SessionTerms(
        idle=float(message.idle_seconds) if message.HasField("idle_seconds") else default.idle,
        turn=message.turn,
        first=message.first if message.HasField("first") else default.first,
        wait=message.wait_ms / 1000 if message.HasField("wait_ms") else default.wait,
        unit=session_terms.unit_of(message.unit) if message.unit else default.unit,
    )


def terms_message(terms: SessionTerms | None) -> pb.SessionTerms | None:
    """A model's terms, where it has sessions."""
    if terms is None:
        return None
    return pb.SessionTerms(
        idle_seconds=round(terms.idle),
        turn=terms.turn,
        first=terms.first,
        wait_ms=round(1000 * terms.wait),
        unit=terms.unit,
    )
