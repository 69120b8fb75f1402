"""Rollouts: their stages as a picture, what each found, and the hands on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core.rollout import Move, Rollout, RolloutState
from multishadow_server.entrypoints.web import fields, paging
from multishadow_server.entrypoints.web.actions import act, actor, shown_number
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.fields import Fields
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import FailedPrecondition, NotFound
from multishadow_server.service import rollouts as use_cases
from multishadow_server.service.ports import RolloutEvent

SECTION = "rollouts"
_LEAVING = frozenset({Move.ADVANCE, Move.SET_BACK, Move.ABORT, Move.COMPLETE, Move.ROLL_BACK})


class Place(StrEnum):
    """Where a stage stands: passed, reached now, ended there, or still to come."""

    PASSED = "passed"
    PRESENT = "present"
    PAUSED = "paused"
    STOPPED = "stopped"
    AHEAD = "ahead"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of the picture: its share of the requests in percent, and where it stands."""

    percent: float
    place: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One stay at a stage.

    Args:
        percent: the stage.
        entered_at, left_at: seconds since the Unix epoch; None while it lasts.
        move, why: by which it was left, and why; empty while it lasts.
        findings: the guardrails that decided it, as they are kept; empty where people decided.
    """

    percent: float
    entered_at: float
    left_at: float | None = None
    move: str = ""
    why: str = ""
    findings: Sequence[Mapping[str, Any]] = ()


def stages(rollout: Rollout) -> tuple[Stage, ...]:
    """The stages as a picture."""
    return tuple(
        Stage(percent=percent, place=_place(rollout, index)) for index, percent in enumerate(rollout.terms.stages)
    )


def _place(rollout: Rollout, index: int) -> Place:
    if rollout.state is RolloutState.COMPLETED or index < rollout.stage:
        return Place.PASSED
    if index > rollout.stage:
        return Place.AHEAD
    if rollout.state.ended:
        return Place.STOPPED
    return Place.PAUSED if rollout.state is RolloutState.PAUSED else Place.PRESENT


def visits(events: Sequence[RolloutEvent]) -> tuple[Visit, ...]:
    """The stays at stages, oldest first, from the events, oldest first."""
    found: list[Visit] = []
    for event in events:
        if event.move in _LEAVING and found and found[-1].left_at is None:
            last = found.pop()
            found.append(
                Visit(
                    percent=last.percent,
                    entered_at=last.entered_at,
                    left_at=event.at,
                    move=event.move,
                    why=event.why,
                    findings=event.findings,
                )
            )
        if event.move in {Move.START, Move.ADVANCE, Move.SET_BACK}:
            found.append(Visit(percent=event.percent, entered_at=event.at))
    return tuple(found)


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/rollouts` and `/ui/rollouts/{id}`."""
    page = _RolloutPages(pages, desk)
    one = f"{UI}/rollouts/{{id:int}}"
    return [
        Route(f"{UI}/rollouts", page.listed),
        Route(one, page.show),
        Route(f"{one}/pause", page.changing(use_cases.pause, "is paused"), methods=["POST"]),
        Route(f"{one}/resume", page.changing(use_cases.resume, "goes on"), methods=["POST"]),
        Route(f"{one}/step", page.changing(use_cases.step, "was stepped on", of_stage=True), methods=["POST"]),
        Route(f"{one}/abort", page.changing(use_cases.abort, "was aborted"), methods=["POST"]),
    ]


class _RolloutPages:
    def __init__(self, pages: Pages, desk: Desk) -> None:
        self._pages = pages
        self._desk = desk

    async def listed(self, request: Request) -> Response:
        before, model = paging.number_after(request), request.query_params.get("model", "")
        every = await use_cases.list_rollouts(self._desk.store, self._desk.rollouts, model=model)
        found = [each for each in every if before is None or each.id < before][: paging.PAGE + 1]
        listed = paging.page(found, lambda rollout: rollout.id, first=before is None)
        pictures = {rollout.id: stages(rollout) for rollout in listed.items}
        return self._pages.render(
            request, "rollouts.html", section=SECTION, rollouts=listed, stages=pictures, model=model
        )

    async def show(self, request: Request) -> Response:
        view = await use_cases.get(self._desk.store, self._desk.rollouts, rollout_id=_id(request))
        return self._pages.render(
            request,
            "rollout.html",
            section=SECTION,
            view=view,
            rollout=view.rollout,
            stages=stages(view.rollout),
            visits=visits(view.events),
        )

    def changing(
        self, use_case: Callable[..., Awaitable[Rollout]], words: str, *, of_stage: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """What a button does: the use case, of this rollout and no other, and of the stage that the page showed."""

        async def changed(request: Request) -> Response:
            async def change(said: Fields) -> str:
                model = await self._model_of(_id(request))
                shown = {"from_stage": shown_number(said, "stage")} if of_stage else {}
                rollout = await use_case(
                    self._desk.store,
                    self._desk.rollouts,
                    model=model,
                    actor=actor(),
                    reason=fields.text(said, "reason"),
                    **shown,
                )
                return f"Rollout {rollout.id} {words}, at {rollout.percent:g} %."

            return await act(request, change, back=ui("rollouts", _id(request)))

        return changed

    async def _model_of(self, rollout_id: int) -> str:
        """Its model. The use cases go by the model's rollout that goes on, which may be another one by now.

        Raises:
            NotFound: there is no such rollout.
            FailedPrecondition: it has ended.
        """
        found = await self._desk.rollouts.rollout(rollout_id)
        if found is None:
            raise NotFound(f"there is no rollout {rollout_id}")
        if found.state.ended:
            raise FailedPrecondition(f"rollout {rollout_id} of {found.model} is {found.state} already: {found.note}")
        return found.model


def _id(request: Request) -> int:
    return int(request.path_params["id"])
