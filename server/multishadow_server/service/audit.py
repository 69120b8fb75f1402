"""Reading the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from multishadow_server.errors import InvalidInput
from multishadow_server.service.ports import AuditLine, AuditLog, AuditQuery

MOST_LINES = 1_000
DEFAULT_LINES = 100


async def lines(log: AuditLog, query: AuditQuery) -> Sequence[AuditLine]:
    """The lines that were asked for; `most` 0 is a hundred.

    Raises:
        InvalidInput: `most` is out of range, or lines both before and after one are asked for.
        StoreUnavailable: the database is away.
    """
    if not 0 <= query.most <= MOST_LINES:
        raise InvalidInput(f"most: {query.most} is out of range; allowed are 1 to {MOST_LINES:,}, and 0 for 100")
    if query.before is not None and query.after is not None:
        raise InvalidInput("before and after: ask for one of them")
    return await log.lines(replace(query, most=query.most or DEFAULT_LINES))
