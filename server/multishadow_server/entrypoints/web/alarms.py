"""Alarms that are on or were, and how versions stand with their probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core.alarms import REMEDIES, Alarm
from multishadow_server.core.probe_state import ProbeChange, ProbeOutcome
from multishadow_server.entrypoints.web import fields, paging
from multishadow_server.entrypoints.web.actions import act, actor
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.fields import Fields
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.service import probing, watching
from multishadow_server.service.ports import ProbeKey
from multishadow_server.service.probing import ProbeView

SECTION = "alarms"
HISTORY = 25
CHANGES = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmLine:
    """An alarm, and what to do about it."""

    alarm: Alarm
    remedy: str


def lines(alarms: Sequence[Alarm]) -> tuple[AlarmLine, ...]:
    """Alarms with their remedies."""
    return tuple(AlarmLine(alarm=alarm, remedy=REMEDIES[alarm.key.kind]) for alarm in alarms)


def needs_a_look(views: Sequence[ProbeView]) -> int:
    """How many probes find what should not be."""
    return sum(view.state is not None and view.state.outcome is not ProbeOutcome.OK for view in views)


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/alarms` and `/ui/alarms/probes/{model}`."""

    async def alarms(request: Request) -> Response:
        before = paging.number_after(request)
        on = await watching.list_alarms(desk.store, desk.alarms)
        past = await watching.history(desk.store, desk.alarms, model="", most=HISTORY + 1, before=before)
        probes = await probing.list_probes(desk.store, desk.probes)
        return pages.render(
            request,
            "alarms.html",
            section=SECTION,
            on=lines(on),
            unseen=sum(not alarm.acknowledged for alarm in on),
            past=paging.page(past, lambda alarm: alarm.id, size=HISTORY, first=before is None),
            probes=probes,
            odd_probes=needs_a_look(probes),
        )

    async def probe_changes(request: Request) -> Response:
        model = request.path_params["model"]
        changes: Sequence[tuple[ProbeKey, ProbeChange]] = await probing.probe_changes(
            desk.store, desk.probes, model=model, version="", probe="", most=CHANGES
        )
        views = await probing.list_probes(desk.store, desk.probes, model=model)
        return pages.render(request, "probes.html", section=SECTION, model=model, probes=views, changes=changes)

    async def acknowledge(request: Request) -> Response:
        async def change(said: Fields) -> str:
            one = fields.whole(said, "id")
            done = await watching.acknowledge(
                desk.store,
                desk.alarms,
                ids=[] if one is None else [one],
                model="",
                actor=actor(),
                note=fields.text(said, "note"),
            )
            if not done:
                return "Somebody knew of that already."
            named = ", ".join(f"{alarm.key.kind} {alarm.key.subject}" for alarm in done)
            return f"You are on record as knowing of {named}. What raised it is not over by that."

        return await act(request, change, back=ui("alarms"))

    return [
        Route(f"{UI}/alarms", alarms),
        Route(f"{UI}/alarms/acknowledge", acknowledge, methods=["POST"]),
        Route(f"{UI}/alarms/probes/{{model}}", probe_changes),
    ]
