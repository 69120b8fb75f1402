"""The pages of one experiment: its ranking, its course, its answers, its gates and its kinds of request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core.alarms import REMEDIES
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.entrypoints.web import (
    course_charts,
    experiment_answers,
    experiment_gates,
    experiment_ranking,
    experiment_segments,
    experiments,
)
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.experiment_figures import ExperimentFigures
from multishadow_server.entrypoints.web.experiments import SECTION, Standing
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import NotFound
from multishadow_server.service import comparison_report, steering
from multishadow_server.service.ports import PromotionLine
from multishadow_server.service.recent import LONGEST_SECONDS

# Figures that are older than any that are kept for good stand in for new ones.
STALE_SECONDS = LONGEST_SECONDS + 5.0

Show = Callable[[Request, "Head"], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What every page of an experiment begins with.

    Args:
        standing: the experiment, and how it stands.
        epoch: the present one.
        epochs: all of them, oldest first.
        promoted: the model's newest promotion that nobody took back, which a rollback would; None: there is none.
    """

    standing: Standing
    epoch: Epoch
    epochs: Sequence[Epoch]
    promoted: PromotionLine | None

    @property
    def experiment(self) -> Experiment:
        """The experiment."""
        return self.standing.experiment

    @property
    def colours(self) -> dict[str, str]:
        """The CSS variable of each candidate's colour."""
        return dict(course_charts.colours(self.epoch.candidates))


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/experiments/{id}` and what is below it, but for changes and divergent requests."""
    shown = _Shown(pages, desk)
    below = {
        "": shown.ranking,
        "/course": shown.course,
        "/answers": shown.answers,
        "/gates": shown.gates,
        "/segments": shown.segments,
    }
    return [Route(f"{UI}/experiments/{{id:int}}{path}", shown.page(show)) for path, show in below.items()]


async def head(desk: Desk, experiment_id: int) -> Head:
    """What is at the top of its pages.

    Raises:
        NotFound: no such experiment.
        FailedPrecondition: it has compared nothing.
        StoreUnavailable: the database is away.
    """
    if not experiment_id:
        # To the use cases 0 is whichever is the latest.
        raise NotFound("there is no experiment 0; they count from 1")
    now = desk.clock()
    subject = await comparison_report.subject_of(desk.store, model="", experiment_id=experiment_id)
    outlook = await steering.outlook(desk.store, subject.experiment, now=now)
    promotions = await desk.promotions.standing()
    return Head(
        standing=experiments.standing(subject.experiment, outlook, now=now),
        epoch=subject.epoch,
        epochs=subject.epochs,
        promoted=promotions.get(subject.experiment.model),
    )


class _Shown:
    def __init__(self, pages: Pages, desk: Desk) -> None:
        self._pages = pages
        self._desk = desk
        self._figures = ExperimentFigures(desk)

    def page(self, show: Show) -> Callable[[Request], Awaitable[Response]]:
        async def shown(request: Request) -> Response:
            return await show(request, await head(self._desk, request.path_params["id"]))

        return shown

    async def ranking(self, request: Request, of: Head) -> Response:
        found = await self._figures.report(of.experiment, of.epoch)
        alarms = await self._desk.alarms.alarms(of.experiment.model)
        view = await asyncio.to_thread(experiment_ranking.view, found)
        return self._render(
            request,
            of,
            "ranking",
            found=found,
            view=view,
            alarms=alarms,
            remedies=REMEDIES,
            bands=experiment_ranking.BAND_KINDS,
            accuracy=experiment_ranking.accuracy_of,
        )

    async def course(self, request: Request, of: Head) -> Response:
        found = await self._figures.report(of.experiment, of.epoch)
        course = await self._figures.course(of.experiment, of.epoch)
        view = await asyncio.to_thread(course_charts.view, course, found.report)
        # A rate that has changed varies too; no burst made it.
        moved = {each.version for each in found.report.candidates if each.rate_moved}
        return self._render(request, of, "course", found=found, course=course, view=view, moved=moved)

    async def answers(self, request: Request, of: Head) -> Response:
        found = await self._figures.report(of.experiment, of.epoch)
        counted = await self._figures.answers(of.experiment, of.epoch)
        view = await asyncio.to_thread(experiment_answers.view, counted, found)
        return self._render(
            request, of, "answers", found=found, counted=counted, view=view, cut_words=experiment_answers.cut_words
        )

    async def gates(self, request: Request, of: Head) -> Response:
        found = await self._figures.report(of.experiment, of.epoch)
        pace = await self._figures.pace(of.epoch, found)
        view = experiment_gates.view(found, pace, now=self._desk.clock())
        return self._render(request, of, "gates", found=found, view=view)

    async def segments(self, request: Request, of: Head) -> Response:
        wanted = request.query_params.get("candidate", "")
        candidate = wanted or of.epoch.candidates[0]
        if candidate not in of.epoch.candidates:
            raise NotFound(f"this experiment does not compare {candidate!r}; see {', '.join(of.epoch.candidates)}")
        found = await self._figures.segments(of.experiment, of.epoch, candidate)
        view = experiment_segments.view(found, every="all" in request.query_params)
        return self._render(request, of, "segments", found=found, view=view, candidate=candidate)

    def _render(self, request: Request, of: Head, tab: str, **values: Any) -> Response:  # noqa: ANN401  as templates take them
        read_at = min(values[name].read_at for name in ("found", "course", "counted") if name in values)
        return self._pages.render(
            request,
            f"experiment_{tab}.html",
            section=SECTION,
            head=of,
            tab=tab,
            read_at=read_at,
            stale=self._desk.clock() - read_at > STALE_SECONDS,
            **values,
        )
