"""Who asks, within one call; set where they are let in."""

from __future__ import annotations

from contextvars import ContextVar

from multishadow_server.service.doorkeeper import Caller

current: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""None where no token was needed."""


def actor(named: str, *, otherwise: str) -> str:
    """Who is on record for a change.

    A caller that showed a token is the one of the token: whom they say that they act for stands behind it, and cannot
    stand in for it. Without tokens everybody is who they say.

    Args:
        named: who they say they are; may be empty.
        otherwise: who they are when they neither showed nor said it.
    """
    caller = current.get()
    if caller is None:
        return named or otherwise
    return f"{caller.name} (as {named})" if named else caller.name
