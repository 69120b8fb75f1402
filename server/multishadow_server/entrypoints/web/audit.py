"""Who changed what, when and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.entrypoints.control_messages import free_text
from multishadow_server.entrypoints.web import paging
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import InvalidInput
from multishadow_server.service import audit as use_cases
from multishadow_server.service.ports import AuditLine, AuditQuery

SECTION = "audit"
_FILTERS = ("actor", "action", "subject", "since")
# Said beside the line; the rest is in its details.
_REASONS = ("reason", "why", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A line of the audit log: what was done, why, and the details as JSON (empty without any)."""

    line: AuditLine
    why: str
    details: str


def entry(line: AuditLine) -> Entry:
    """The line for people."""
    why = next((str(line.detail[name]) for name in _REASONS if line.detail.get(name)), "")
    rest = {name: value for name, value in line.detail.items() if name not in _REASONS and value not in (None, "", [])}
    return Entry(line=line, why=why, details=json.dumps(rest, indent=2, ensure_ascii=False) if rest else "")


def query_of(said: Mapping[str, str], *, before: int | None) -> AuditQuery:
    """The lines that a query asks for. Raises InvalidInput: a filter is too long, or its time is none."""
    return AuditQuery(
        since=_day(said.get("since", "")),
        actor=free_text("actor", said.get("actor", "").strip()),
        action=free_text("action", said.get("action", "").strip()),
        subject=free_text("subject", said.get("subject", "").strip()),
        before=before,
        most=paging.PAGE + 1,
    )


def _day(said: str) -> float | None:
    """The beginning of a day, UTC, as a browser's date field writes it."""
    if not said:
        return None
    try:
        return datetime.strptime(said, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InvalidInput(f"since: {said[:40]!r} is no day; write it like 2026-11-23") from None


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/audit`."""

    async def audit(request: Request) -> Response:
        before = paging.number_after(request)
        found = await use_cases.lines(desk.audit, query_of(request.query_params, before=before))
        listed = paging.page([entry(line) for line in found], lambda each: each.line.id, first=before is None)
        chosen = {name: request.query_params.get(name, "").strip() for name in _FILTERS}
        return pages.render(request, "audit.html", section=SECTION, entries=listed, chosen=chosen)

    return [Route(f"{UI}/audit", audit)]
