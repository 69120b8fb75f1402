"""Which event loop a process runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# They do little but call and answer.
CALLING_ROLES = frozenset({"router", "worker"})


def factory(role: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes a role's loop; None for Python's own.

    uvloop takes an eighth off the processor time of a proxy in grpc.aio, whose calls are five turns of the loop each
    (docs/decisions/router-cost.md).
    """
    if role not in CALLING_ROLES:
        return None
    import uvloop  # noqa: PLC0415  the other commands do without

    return uvloop.new_event_loop
