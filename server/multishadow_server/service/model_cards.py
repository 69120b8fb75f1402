"""Every model on one card: who answers callers and how well, who shadows, and what goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import serving
from multishadow_server.core.alarms import Alarm
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.live_figures import LiveFigures
from multishadow_server.core.model import Model, Version
from multishadow_server.core.rollout import Rollout
from multishadow_server.service import models, names
from multishadow_server.service.live_window import LiveWindow
from multishadow_server.service.models import ModelView
from multishadow_server.service.ports import (
    AlarmStore,
    ControlStore,
    PromotionHistory,
    PromotionLine,
    RolloutStore,
)
from multishadow_server.service.running_counts import RunningCounts, running_counts


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionLine:
    """One version of a model.

    Args:
        version: it.
        claim: what its flag says, in words.
        live: whether it serves when no rollout and no attribute says otherwise.
        serves: whether some request may be answered by it.
        answers: whether it stands among those that callers get answers of: it is live, or gets a share beside the live
            one, or got requests lately. One that serves and does not answer stands by for when the live one is away.
        compared: whether the running experiment compares it.
        paused: whether nobody copies requests to it for now.
        figures: what callers got of it lately; None when it was chosen for nobody.
    """

    version: Version
    claim: str
    live: bool
    serves: bool
    answers: bool
    compared: bool
    paused: bool
    figures: LiveFigures | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """A model, and what goes on with it.

    Args:
        view: the model with what its flags say.
        lines: its versions, in order of registration.
        last: the newest promotion that nobody took back; what a rollback takes back.
        running: the experiment that runs, with its counts; None when none does.
        rollout: that goes on; None when none does.
        alarms: of this model that are on.
        measured: seconds that the live figures are of, the longest first; 0 without any.
    """

    view: ModelView
    lines: tuple[VersionLine, ...]
    last: PromotionLine | None
    running: RunningCounts | None
    rollout: Rollout | None
    alarms: tuple[Alarm, ...]
    measured: float

    @property
    def since(self) -> PromotionLine | None:
        """The promotion by which the live version is live; None where it is so by its registration, or by hand."""
        return self.last if self.last is not None and self.last.version == self.view.live else None

    @property
    def answering(self) -> tuple[VersionLine, ...]:
        """The versions that callers get answers of, the live one first."""
        return tuple(sorted((line for line in self.lines if line.answers), key=lambda line: not line.live))

    @property
    def beside(self) -> tuple[VersionLine, ...]:
        """The versions whose answers callers do not see."""
        return tuple(line for line in self.lines if not line.answers)

    @property
    def others(self) -> tuple[VersionLine, ...]:
        """The versions that are not live."""
        return tuple(line for line in self.lines if not line.live)


@dataclass(frozen=True, kw_only=True, slots=True)
class GoingOn:
    """What goes on, of all models.

    Args:
        standing: the newest promotion of each that nobody took back.
        running: experiments that run.
        rollouts: those that go on.
        alarms: those that are on; of no model those that concern all.
        figures: what callers got lately, by model and version.
        now: seconds since the Unix epoch.
    """

    standing: Mapping[str, PromotionLine]
    running: Sequence[RunningCounts]
    rollouts: Sequence[Rollout]
    alarms: Sequence[Alarm]
    figures: Mapping[tuple[str, str], LiveFigures]
    now: float


def card(model: Model, flags: serving.Flags, going_on: GoingOn) -> ModelCard:
    """The card of one model."""
    view = models.view_of(model, flags)
    running = next((each for each in going_on.running if each.experiment.model == model.name), None)
    serves = serving.serving_versions(model, flags)
    live = model.version(view.live)

    def line(version: Version) -> VersionLine:
        figures = going_on.figures.get((model.name, version.name))
        newer = live is not None and version.ordinal > live.ordinal
        return VersionLine(
            version=version,
            claim=view.claims[version.name],
            live=version == live,
            serves=version.name in serves,
            answers=version == live or (newer and version.name in serves) or bool(figures and figures.counts.requests),
            compared=running is not None and version.name in running.experiment.candidates,
            paused=version.pause is not None and version.pause.holds_at(going_on.now),
            figures=figures,
        )

    lines = tuple(map(line, model.versions))
    return ModelCard(
        view=view,
        lines=lines,
        last=going_on.standing.get(model.name),
        running=running,
        rollout=next((each for each in going_on.rollouts if each.model == model.name), None),
        alarms=tuple(alarm for alarm in going_on.alarms if alarm.key.model == model.name),
        measured=max((line.figures.seconds for line in lines if line.figures), default=0.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCards:
    """Makes cards of what is stored.

    Args:
        store: configuration and experiments.
        promotions: what was made live.
        rollouts: where rollouts are.
        alarms: where alarms are.
        live: what callers got lately.
        clock: the time, in seconds since the Unix epoch.
    """

    store: ControlStore
    promotions: PromotionHistory
    rollouts: RolloutStore
    alarms: AlarmStore
    live: LiveWindow
    clock: Callable[[], float]

    async def all(self) -> tuple[Sequence[ModelCard], Sequence[Alarm]]:
        """The cards by name, and the alarms that are of no model. Raises StoreUnavailable."""
        configuration = await self.store.read(experiments=False)
        going_on = await self._going_on(configuration)
        cards = [
            card(configuration.models[name], configuration.flags, going_on) for name in sorted(configuration.models)
        ]
        return cards, [alarm for alarm in going_on.alarms if not alarm.key.model]

    async def of(self, model: str) -> tuple[ModelCard, Configuration]:
        """One card, with the configuration that it was made of. Raises NotFound, StoreUnavailable."""
        configuration = await self.store.read(experiments=False)
        found = names.model_of(configuration, model)
        return card(found, configuration.flags, await self._going_on(configuration)), configuration

    async def _going_on(self, configuration: Configuration) -> GoingOn:
        return GoingOn(
            standing=await self.promotions.standing(),
            running=await running_counts(self.store, configuration),
            rollouts=await self.rollouts.rollouts(running=True),
            alarms=await self.alarms.alarms(),
            figures=await self.live.figures(),
            now=self.clock(),
        )
