"""What people change on an experiment's pages: vouching, waiving, promoting, stopping, rolling back.

Each that reaches callers is asked back first, on a page of its own that says what will happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.entrypoints.control_messages import free_text
from multishadow_server.entrypoints.web import experiment
from multishadow_server.entrypoints.web.actions import Act, act, actor, shown_number
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.experiment_figures import ExperimentFigures
from multishadow_server.entrypoints.web.experiment_gates import VERDICT_KINDS
from multishadow_server.entrypoints.web.experiments import SECTION
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service import (
    comparison_report,
    experiments,
    flag_sources,
    gate_records,
    promotion,
    promotion_preview,
)
from multishadow_server.service.comparison_report import Subject

# What somebody decides by is no older than what a page shows without a note.
LATELY_SECONDS = experiment.STALE_SECONDS
_BELOW = f"{UI}/experiments/{{id:int}}"


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """What is asked back, and what is done then."""
    asked, done = _Asked(pages, desk), _Done(desk)
    return [
        Route(f"{_BELOW}/attest", done.attest, methods=["POST"]),
        Route(f"{_BELOW}/waive", done.waive, methods=["POST"]),
        Route(f"{_BELOW}/promote", asked.promote),
        Route(f"{_BELOW}/promote", done.promote, methods=["POST"]),
        Route(f"{_BELOW}/stop", asked.stop),
        Route(f"{_BELOW}/stop", done.stop, methods=["POST"]),
        Route(f"{_BELOW}/rollback", asked.rollback),
        Route(f"{_BELOW}/rollback", done.rollback, methods=["POST"]),
    ]


class _Asked:
    """Pages that say what will happen, with the button that does it."""

    def __init__(self, pages: Pages, desk: Desk) -> None:
        self._pages = pages
        self._desk = desk
        self._figures = ExperimentFigures(desk)

    async def promote(self, request: Request) -> Response:
        of = await experiment.head(self._desk, request.path_params["id"])
        version = request.query_params.get("version", "")
        foreseen = await promotion_preview.preview(self._desk.store, model=of.experiment.model, version=version)
        # Of a moment ago at times, which the page says: whoever presses the button has the gates asked again.
        found = await self._figures.report(of.experiment, of.epoch, oldest=LATELY_SECONDS)
        review = next((each for each in found.reviews if each.version == version), None)
        return self._page(
            request, of, "promote", foreseen=foreseen, review=review, verdicts=VERDICT_KINDS, read_at=found.read_at
        )

    async def stop(self, request: Request) -> Response:
        of = await experiment.head(self._desk, request.path_params["id"])
        return self._page(request, of, "stop")

    async def rollback(self, request: Request) -> Response:
        of = await experiment.head(self._desk, request.path_params["id"])
        last = await promotion_preview.last_promotion(self._desk.store, model=of.experiment.model, actor=actor())
        return self._page(request, of, "rollback", last=last)

    def _page(self, request: Request, of: experiment.Head, change: str, **values: Any) -> Response:  # noqa: ANN401  as templates take them
        return self._pages.render(
            request, f"experiment_{change}.html", section=SECTION, head=of, tab="", change=change, **values
        )


class _Done:
    """The changes themselves."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def attest(self, request: Request) -> Response:
        async def change(fields: Mapping[str, str]) -> str:
            subject = await self._of_latest(request)
            version, what = fields.get("version", ""), fields.get("what", "")
            await gate_records.attest(
                self._desk.store,
                model=subject.experiment.model,
                version=version,
                what=what,
                note=free_text("note", fields.get("note", "")),
                actor=actor(),
                clock=self._desk.clock,
            )
            return f"On record: {what} for {version}."

        return await self._act(request, change, back="gates")

    async def waive(self, request: Request) -> Response:
        async def change(fields: Mapping[str, str]) -> str:
            subject = await self._of_latest(request)
            version, gate = fields.get("version", ""), fields.get("gate", "")
            await gate_records.waive(
                self._desk.store,
                model=subject.experiment.model,
                version=version,
                gate=gate,
                reason=free_text("reason", fields.get("reason", "")),
                actor=actor(),
                clock=self._desk.clock,
            )
            return f"{gate} is waived for {version}; the reason is kept for ever."

        return await self._act(request, change, back="gates")

    async def promote(self, request: Request) -> Response:
        async def change(fields: Mapping[str, str]) -> str:
            subject = await self._of_latest(request)
            done = await promotion.promote(
                self._desk.store,
                self._desk.probe,
                model=subject.experiment.model,
                version=fields.get("version", ""),
                percent=_percent(fields.get("percent", "100")),
                actor=actor(),
                reason=free_text("reason", fields.get("reason", "")),
                force="force" in fields,
                clock=self._desk.clock,
            )
            if not done.changed:
                return f"{done.version} is live already; nothing was changed."
            return await self._with_warnings(
                f"{done.version} is live from revision {done.revision} on; it was {done.previous}. "
                "Roll back takes this back."
            )

        return await self._act(request, change)

    async def stop(self, request: Request) -> Response:
        async def change(fields: Mapping[str, str]) -> str:
            subject = await self._running(request)
            stopped, revision = await experiments.stop_experiment(
                self._desk.store,
                model=subject.experiment.model,
                actor=actor(),
                reason=free_text("reason", fields.get("reason", "")),
            )
            return await self._with_warnings(
                f"Experiment {stopped.id} is stopped from revision {revision} on; its figures stay."
            )

        return await self._act(request, change)

    async def rollback(self, request: Request) -> Response:
        async def change(fields: Mapping[str, str]) -> str:
            subject = await self._subject(request)
            await flag_sources.check_rollback(self._desk.store, clock=self._desk.clock)
            undone = await promotion.rollback(
                self._desk.store,
                model=subject.experiment.model,
                actor=actor(),
                reason=free_text("reason", fields.get("reason", "")),
                of_revision=shown_number(fields, "promotion"),
            )
            return await self._with_warnings(
                f"{undone.version} is live again from revision {undone.revision} on; {undone.rolled_back} is not."
            )

        return await self._act(request, change)

    async def _act(self, request: Request, change: Act, *, back: str = "") -> Response:
        number = str(request.path_params["id"])

        async def changed(fields: Mapping[str, str]) -> str:
            try:
                return await change(fields)
            finally:
                # A change that failed half way may have changed something.
                self._desk.recent.forget()

        return await act(request, changed, back=ui("experiments", number, *((back,) if back else ())))

    async def _subject(self, request: Request) -> Subject:
        return await comparison_report.subject_of(self._desk.store, model="", experiment_id=request.path_params["id"])

    async def _of_latest(self, request: Request) -> Subject:
        """The experiment that gates are about: the use cases know a model's latest one alone."""
        subject = await self._subject(request)
        model = subject.experiment.model
        latest = (await comparison_report.subject_of(self._desk.store, model=model, experiment_id=0)).experiment
        if latest.id != subject.experiment.id:
            raise FailedPrecondition(
                f"experiment {subject.experiment.id} of {model} is over, and {latest.id} is the latest: promotions go "
                "by its gates. Nothing was changed"
            )
        return subject

    async def _running(self, request: Request) -> Subject:
        subject = await self._subject(request)
        if not subject.experiment.running:
            raise FailedPrecondition(f"experiment {subject.experiment.id} has ended already; nothing was changed")
        return subject

    async def _with_warnings(self, said: str) -> str:
        return " ".join([said, *await flag_sources.warnings(self._desk.store, clock=self._desk.clock)])


def _percent(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f'percent: "{text[:20]}" is no number; give the share of requests, like 25') from None
