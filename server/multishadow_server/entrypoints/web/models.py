"""A model's page: its versions and what they claim, what a promotion would need, and what was made live before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core import model_settings
from multishadow_server.core.gates import Review
from multishadow_server.core.routing import Claim
from multishadow_server.entrypoints.web import actions, fields, paging
from multishadow_server.entrypoints.web.actions import act, actor
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.experiment_figures import ExperimentFigures
from multishadow_server.entrypoints.web.fields import Fields
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service import (
    comparison_report,
    flag_sources,
    flags,
    pausing,
    promotion,
    promotion_gates,
    rollouts,
)
from multishadow_server.service.comparison_report import ExperimentReport
from multishadow_server.service.model_cards import ModelCard
from multishadow_server.service.rollout_planning import Wish

HISTORY = 10
_PAUSES = (("", "until it is resumed"), ("3600", "1 hour"), ("28800", "8 hours"), ("86400", "1 day"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What is known of a version's readiness.

    Args:
        report: of the experiment that compares it; None when none did.
        review: what the gates say; None when it was not compared.
        past: why that comparison vouches for nothing any more; empty when it does.
    """

    report: ExperimentReport | None = None
    review: Review | None = None
    past: str = ""


def standings(card: ModelCard, report: ExperimentReport | None, past: str) -> Mapping[str, Standing]:
    """What the gates say of each version that is not live, by its name."""
    reviews = {review.version: review for review in report.reviews} if report else {}
    return {
        line.version.name: Standing(report=report, review=reviews.get(line.version.name), past=past)
        for line in card.others
    }


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/models/{model}` and what can be done there."""
    at = f"{UI}/models/{{model}}"
    of_version = f"{at}/versions/{{version}}"
    page = _ModelPage(pages, desk)
    return [
        Route(at, page.show),
        Route(f"{at}/rollback", page.roll_back, methods=["POST"]),
        Route(f"{of_version}/pause", page.pause, methods=["POST"]),
        Route(f"{of_version}/resume", page.resume, methods=["POST"]),
        Route(f"{of_version}/flag", page.set_flag, methods=["POST"]),
        Route(f"{of_version}/promote", page.promote, methods=["POST"]),
    ]


class _ModelPage:
    def __init__(self, pages: Pages, desk: Desk) -> None:
        self._pages = pages
        self._desk = desk
        self._figures = ExperimentFigures(desk)

    async def show(self, request: Request) -> Response:
        desk, name = self._desk, request.path_params["model"]
        card, configuration = await desk.cards.of(name)
        before = paging.number_after(request)
        history = await desk.promotions.history(name, before=before, most=HISTORY + 1)
        report = await self._report(name)
        past = promotion_gates.of_another_time(report.epoch, configuration) if report else ""
        model = card.view.model
        return self._pages.render(
            request,
            "model.html",
            card=card,
            model=model,
            report=report,
            standings=standings(card, report, past),
            past=past,
            settings=tuple(model_settings.of_model(model)),
            gate_settings=tuple(model_settings.of_gates(model.gates)),
            version_settings={each.name: tuple(model_settings.of_version(each)) for each in model.versions},
            history=paging.page(history, lambda line: line.id, size=HISTORY, first=before is None),
            revision=configuration.revision,
            pauses=_PAUSES,
            now=desk.clock(),
        )

    async def _report(self, model: str) -> ExperimentReport | None:
        """On its experiment; None when it has none yet, or one that compared nothing."""
        try:
            subject = await comparison_report.subject_of(self._desk.store, model=model, experiment_id=0)
        except FailedPrecondition:
            return None
        return await self._figures.report(subject.experiment, subject.epoch)

    async def pause(self, request: Request) -> Response:
        model, version = _named(request)

        async def change(said: Fields) -> str:
            seconds = fields.number(said, "seconds")
            await pausing.pause(
                self._desk.store,
                model=model,
                version=version,
                seconds=seconds,
                actor=actor(),
                reason=fields.text(said, "reason"),
            )
            until = "until it is resumed or the time is over" if seconds else "until it is resumed"
            return f"Nobody copies requests to {version} any more, {until}."

        return await act(request, change, back=ui("models", model))

    async def resume(self, request: Request) -> Response:
        model, version = _named(request)

        async def change(said: Fields) -> str:
            await pausing.resume(
                self._desk.store, model=model, version=version, actor=actor(), reason=fields.text(said, "reason")
            )
            return f"{version} is shadowed again as its flag says."

        return await act(request, change, back=ui("models", model))

    async def set_flag(self, request: Request) -> Response:
        model, version = _named(request)

        async def change(said: Fields) -> str:
            percent = fields.number(said, "percent")
            done = await flags.set_flag(
                self._desk.store,
                model=model,
                version=version,
                claim=_claim_of(said),
                percent=100.0 if percent is None else percent,
                actor=actor(),
                reason=fields.text(said, "reason"),
                expected_revision=fields.whole(said, "revision"),
            )
            warnings = await flag_sources.warnings(self._desk.store, clock=self._desk.clock)
            return actions.said(f"{done.record.key} is set, revision {done.revision}.", *done.effects, *warnings)

        return await act(request, change, back=ui("models", model))

    async def promote(self, request: Request) -> Response:
        model, version = _named(request)

        async def change(said: Fields) -> str:
            force, reason = fields.checked(said, "force"), fields.text(said, "reason")
            if said.get("how") == "stages":
                return await self._roll_out(Wish(model=model, version=version, force=force, reason=reason))
            promoted = await promotion.promote(
                self._desk.store,
                self._desk.probe,
                model=model,
                version=version,
                actor=actor(),
                reason=reason,
                force=force,
                clock=self._desk.clock,
            )
            warnings = await flag_sources.warnings(self._desk.store, clock=self._desk.clock)
            done = f"{version} is live in place of {promoted.previous}, revision {promoted.revision}."
            return actions.said(done if promoted.changed else f"{version} was live already.", *warnings)

        return await act(request, change, back=ui("models", model))

    async def _roll_out(self, wish: Wish) -> str:
        desk = self._desk
        rollout = await rollouts.start(desk.store, desk.rollouts, desk.probe, wish, actor=actor(), clock=desk.clock)
        stages = ", ".join(f"{percent:g}" for percent in rollout.terms.stages)
        return f"Rollout {rollout.id} has begun: {stages} %. Guardrails watch it, and take it back when they must."

    async def roll_back(self, request: Request) -> Response:
        desk, model = self._desk, request.path_params["model"]

        async def change(said: Fields) -> str:
            await flag_sources.check_rollback(desk.store, clock=desk.clock)
            undone = await promotion.rollback(
                desk.store,
                model=model,
                actor=actor(),
                reason=fields.text(said, "reason"),
                of_revision=actions.shown_number(said, "promotion"),
            )
            warnings = await flag_sources.warnings(desk.store, clock=desk.clock)
            return actions.said(
                f"{undone.rolled_back} was rolled back: {undone.version} is live, revision {undone.revision}.",
                *warnings,
            )

        return await act(request, change, back=ui("models", model))


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params["version"]


def _claim_of(said: Fields) -> Claim:
    """The claim that was chosen. Raises InvalidInput: none, or one that is not set here."""
    chosen = said.get("claim", "")
    if chosen not in {Claim.OFF.value, Claim.SHADOW.value}:
        raise InvalidInput(
            f"claim: choose off or shadow, not {chosen[:40]!r}; who is live is changed by promoting and rolling back"
        )
    return Claim(chosen)
