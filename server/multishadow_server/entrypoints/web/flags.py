"""Flags: what each says, who reads it, and everything that it ever said."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core import flag_definition
from multishadow_server.core import flags as flag_rules
from multishadow_server.entrypoints.web import actions, differences, fields, paging
from multishadow_server.entrypoints.web.actions import act, actor
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.differences import Line
from multishadow_server.entrypoints.web.fields import Fields
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paging import Paged
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import InvalidInput
from multishadow_server.service import acknowledgement, flag_editing, flag_reading, flag_sources
from multishadow_server.service.flag_editing import Edit
from multishadow_server.service.flag_reading import FlagView
from multishadow_server.service.ports import FlagRevision

SECTION = "flags"
REVISIONS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagLine:
    """A flag in a list: what it says in words, whose it is, and its last change."""

    view: FlagView
    says: str
    flag_set: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionLine:
    """One line of a flag's history, and what it changed.

    Args:
        said: the line.
        says: in words; "deleted" where it was.
        changed: against the line before it.
        present: whether it is what the flag says now.
    """

    said: FlagRevision
    says: str
    changed: Sequence[Line]
    present: bool


def listed(views: Sequence[FlagView], *, after: str, size: int = paging.PAGE) -> Paged[FlagLine]:
    """A page of flags that are in order of their keys, from the first key after `after` on."""
    start = bisect.bisect_right([view.record.key for view in views], after) if after else 0
    found = [_line(view) for view in views[start : start + size + 1]]
    return paging.page(found, lambda line: line.view.record.key, size=size, first=not after)


def revisions(history: Sequence[FlagView], *, first: bool, size: int = REVISIONS) -> Paged[RevisionLine]:
    """A page of a flag's history, newest first, each line with what it changed.

    Args:
        history: the page's lines, and the next one where there are more: what the last line changed is seen by it.
        first: whether the page begins with what the flag says now.
        size: lines of a page.
    """
    said = [view.record for view in history if isinstance(view.record, FlagRevision)]
    older = [*said[1:], None]
    lines = [
        RevisionLine(
            said=line,
            says="deleted" if line.definition is None else in_words(view),
            changed=differences.lines(former.definition if former else None, line.definition),
            present=first and line is said[0],
        )
        for view, line, former in zip(history, said, older, strict=True)
    ]
    return paging.page(lines, lambda line: line.said.revision, size=size, first=first)


def in_words(view: FlagView) -> str:
    """What a flag says: a version's claim, or the variant that everybody gets, or that a rule decides."""
    definition = view.record.definition or {}
    if view.owner is not None:
        return flag_rules.describe(definition)
    if definition.get("state") == "DISABLED":
        return "disabled"
    return "targeting rule" if definition.get("targeting") else str(definition.get("defaultVariant") or "code default")


def _line(view: FlagView) -> FlagLine:
    return FlagLine(view=view, says=in_words(view), flag_set=flag_definition.flag_set(view.record.definition or {}))


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/flags` and `/ui/flags/{key}`."""

    async def flags(request: Request) -> Response:
        prefix = request.query_params.get("prefix", "")
        views, revision = await flag_reading.list_definitions(desk.store, prefix=prefix)
        found = listed(views, after=request.query_params.get("after", ""))
        return pages.render(
            request,
            "flags.html",
            section=SECTION,
            flags=found,
            prefix=prefix,
            revision=revision,
            total=len(views),
        )

    async def flag(request: Request) -> Response:
        key = request.path_params["key"]
        before = paging.number_after(request)
        history = await flag_reading.history(desk.store, key, before=before, most=REVISIONS + 1)
        present = history[0] if before is None else (await flag_reading.history(desk.store, key, most=1))[0]
        readers = await flag_sources.readers(desk.store, clock=desk.clock)
        following = await acknowledgement.acknowledged(
            desk.store, present.record.revision, now=await desk.rollouts.now()
        )
        return pages.render(
            request,
            "flag.html",
            section=SECTION,
            key=key,
            flag=_line(present),
            deleted=present.record.definition is None,
            definition=differences.written(present.record.definition),
            readers=readers,
            following=following,
            history=revisions(history, first=before is None),
        )

    async def revert(request: Request) -> Response:
        key = request.path_params["key"]

        async def change(said: Fields) -> str:
            to_revision = fields.whole(said, "to_revision")
            if to_revision is None:
                raise InvalidInput("to_revision: say which revision the flag should say again")
            edit = Edit(
                actor=actor(), reason=fields.text(said, "reason"), expected_revision=fields.whole(said, "revision")
            )
            edited = await flag_editing.revert(desk.store, edit, to_revision=to_revision, keys=(key,))
            if not edited.changes:
                return f"{key} says what it said at revision {to_revision} already."
            warnings = await flag_sources.warnings(desk.store, clock=desk.clock) if edited.claims else []
            done = f"{key} says again what it said at revision {to_revision}; that is revision {edited.revision}."
            return actions.said(done, *edited.warnings, *edited.effects, *warnings)

        return await act(request, change, back=ui("flags", key))

    return [
        Route(f"{UI}/flags", flags),
        Route(f"{UI}/flags/{{key}}", flag),
        Route(f"{UI}/flags/{{key}}/revert", revert, methods=["POST"]),
    ]
