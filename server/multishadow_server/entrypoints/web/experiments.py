"""The list of experiments: what runs, what ran, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_client.cli import schedule_view
from multishadow_server.core.experiment import Experiment
from multishadow_server.entrypoints import control_messages, schedule_messages
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.service import experiment_listing, experiments, steering
from multishadow_server.service.steering import Outlook

SECTION = "experiments"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How an experiment stands with its time box and its schedule.

    Args:
        experiment: it.
        share: of requests, in words.
        elapsed, whole: seconds of the time box.
        left: seconds until it ends; None when it has ended.
        schedule: a line each for its ramp and its windows.
    """

    experiment: Experiment
    share: str
    elapsed: float
    whole: float
    left: float | None
    schedule: tuple[str, ...]

    @property
    def progress(self) -> float:
        """Share of the time box that is over."""
        return min(max(self.elapsed / self.whole, 0.0), 1.0) if self.whole else 1.0


def standing(experiment: Experiment, outlook: Outlook, *, now: float) -> Standing:
    """How it stands at a time, in seconds since the Unix epoch."""
    message = control_messages.experiment_message(experiment, schedule_messages.schedule_message(experiment, outlook))
    ended = experiment.stopped_at
    return Standing(
        experiment=experiment,
        share=schedule_view.share(message),
        elapsed=(now if ended is None else ended) - experiment.started_at,
        whole=experiment.ends_at - experiment.started_at,
        left=max(0.0, experiment.ends_at - now) if ended is None else None,
        schedule=tuple(schedule_view.lines(message)),
    )


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/experiments`."""

    async def listing(request: Request) -> Response:
        model = request.query_params.get("model", "")
        known = await experiments.list_experiments(desk.store, model=model)
        shown = experiment_listing.page(known, after=request.query_params.get("after", ""))
        now = desk.clock()
        standings = [
            standing(each, await steering.outlook(desk.store, each, now=now), now=now) for each in shown.experiments
        ]
        configuration = await desk.store.read(experiments=False)
        return pages.render(
            request,
            "experiments.html",
            section=SECTION,
            standings=standings,
            following=shown.following,
            model=model,
            models=sorted(configuration.models),
        )

    return [Route(f"{UI}/experiments", listing)]
