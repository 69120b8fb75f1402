"""Reporting on an experiment."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from multishadow_server.core import experiment as rules
from multishadow_server.core import panel, quality, report, serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.findings import Quality
from multishadow_server.core.gates import Review
from multishadow_server.core.labels import COUNTED_FAMILIES
from multishadow_server.core.panel import Panel
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.session_report import SessionReport
from multishadow_server.core.session_terms import Unit
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import gate_review, names, session_ranking, status, steering
from multishadow_server.service.ports import ControlStore, EvidenceStore
from multishadow_server.service.steering import ALWAYS, Outlook

DEFAULT_ALPHA = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentReport:
    """A report with what it is about.

    Args:
        experiment: the experiment.
        epoch: the epoch that was read.
        earlier_epochs: how many closed ones of the experiment are kept apart from it.
        report: the statistics.
        reviews: what the gates say of each candidate that is shown.
        panel: the classical tests.
        read_at: seconds since the Unix epoch.
        outlook: how the experiment stands with its schedule.
        sampling_share: see `status.sampling_share`.
        sessions: what was counted of sessions; None where the model has none.
    """

    experiment: Experiment
    epoch: Epoch
    earlier_epochs: int
    report: report.Report
    reviews: tuple[Review, ...]
    panel: Panel
    read_at: float
    outlook: Outlook = ALWAYS
    sampling_share: float | None = None
    sessions: SessionReport | None = None

    @property
    def epoch_reason(self) -> str:
        """Why the epoch began, and that there are earlier ones, which it does not mix with."""
        if not self.earlier_epochs:
            return self.epoch.reason
        those = "1 earlier epoch is" if self.earlier_epochs == 1 else f"{self.earlier_epochs} earlier epochs are"
        return f"{self.epoch.reason} ({those} kept apart)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a report is about: an experiment, its epochs, and the present one; with the configuration at that time."""

    configuration: Configuration
    experiment: Experiment
    epoch: Epoch
    epochs: Sequence[Epoch]


def check_alpha(alpha: float) -> None:
    """Raise InvalidInput when it is out of range."""
    # Not `alpha <= 0 or alpha >= 1`: NaN has to fail.
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha: {alpha:g} is out of range; allowed is (0, 1), usual is 0.05")


async def subject_of(store: ControlStore, *, model: str, experiment_id: int) -> Subject:
    """Find what to report on.

    Args:
        store: where experiments are.
        model: empty: the only model there is, or the experiment's.
        experiment_id: 0: the running experiment, or else the latest.

    Raises:
        InvalidInput: the model must be named.
        NotFound: no such model or experiment.
        FailedPrecondition: there is nothing to compare yet.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read()
    experiment = await _experiment(store, configuration, model=model, experiment_id=experiment_id)
    live = serving.live_version(configuration.models[experiment.model], configuration.flags)
    epochs = await store.epochs(experiment.id)
    epoch = rules.present_epoch(epochs, live.name if live else "")
    if epoch is None:
        raise FailedPrecondition(f"experiment {experiment.id} of {experiment.model} has compared nothing yet")
    return Subject(configuration=configuration, experiment=experiment, epoch=epoch, epochs=epochs)


async def compare(
    store: ControlStore,
    *,
    model: str = "",
    candidates: Sequence[str] = (),
    experiment_id: int = 0,
    alpha: float = DEFAULT_ALPHA,
    unit: str = "",
    clock: Callable[[], float],
) -> ExperimentReport:
    """Report on an experiment's present epoch: that of the version which serves when no attribute says otherwise.

    Args:
        store: where experiments and counts are.
        model: empty: the only model there is, or the experiment's.
        candidates: those to show; none: all of the epoch's. What is proven is proven among all of them.
        experiment_id: 0: the running experiment, or else the latest.
        alpha: the chance of ever making a false claim, in (0, 1).
        unit: "session" or "request": what to rank by; empty: what the model says. Gates go by what the model says.
        clock: the time, in seconds since the Unix epoch.

    Raises:
        InvalidInput: alpha is out of range, there is no such unit, a candidate is named twice, or the model must be
            named.
        NotFound: no such model, experiment or candidate.
        FailedPrecondition: there is nothing to compare yet, or there are no sessions to rank by.
        StoreUnavailable: the database is away.
    """
    check_alpha(alpha)
    subject = await subject_of(store, model=model, experiment_id=experiment_id)
    epoch, read_at = subject.epoch, clock()
    found = await evidence_on(store, subject, alpha=alpha, unit=unit, now=read_at, candidates=candidates)
    return ExperimentReport(
        experiment=subject.experiment,
        epoch=epoch,
        earlier_epochs=sum(_ended_before(each, epoch) for each in subject.epochs),
        report=report.narrow(found.report, found.shown),
        reviews=found.reviews,
        panel=panel.build(found.rollup, [version for version in epoch.candidates if version in found.shown]),
        read_at=read_at,
        outlook=await steering.outlook(store, subject.experiment, now=read_at),
        sampling_share=await status.sampling_share(store, clock=clock),
        sessions=session_ranking.counted(subject.configuration.models[epoch.model], found.rollup, found.shown),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What an epoch comes to.

    Args:
        rollup: its counts.
        report: on all candidates, by the unit that was asked for.
        shown: the candidates that were asked for.
        reviews: what the gates say of these.
    """

    rollup: Rollup
    report: report.Report
    shown: Sequence[str]
    reviews: tuple[Review, ...]


async def evidence_on(
    store: EvidenceStore,
    subject: Subject,
    *,
    alpha: float = DEFAULT_ALPHA,
    unit: str = "",
    now: float,
    candidates: Sequence[str] = (),
) -> Evidence:
    """What an epoch comes to, by what the store says of it.

    Args:
        store: the epoch's counts, and what gates look at.
        subject: which epoch.
        alpha: see `compare`.
        unit: likewise.
        now: seconds since the Unix epoch.
        candidates: see `compare`.

    Raises:
        InvalidInput: there is no such unit, or a candidate is named twice.
        NotFound: no such candidate.
        FailedPrecondition: there are no sessions to rank by.
        StoreUnavailable: the database is away.
    """
    configuration, experiment, epoch = subject.configuration, subject.experiment, subject.epoch
    units = session_ranking.units(configuration.models[experiment.model], experiment, unit)
    rollup = await store.rollup(epoch.id)
    buckets = await store.buckets(epoch.id, [Family.PAIR, Family.OUTCOME])
    who_was_right, rank_by_labels = await _quality(store, subject, rollup, alpha=alpha, now=now)
    whole = await asyncio.to_thread(
        report.build,
        rollup,
        model=experiment.model,
        live=epoch.live,
        candidates=epoch.candidates,
        alpha=alpha,
        buckets=buckets.values(),
        quality=who_was_right,
        rank_by_labels=rank_by_labels,
    )
    ranked = {
        Unit.REQUEST: whole,
        **({Unit.SESSION: await session_ranking.ranked(store, epoch, rollup, whole)} if Unit.SESSION in units else {}),
    }
    shown = _shown(epoch, candidates) or epoch.candidates
    reading = gate_review.Reading(
        configuration=configuration,
        experiment=experiment,
        epoch=epoch,
        rollup=rollup,
        buckets=buckets,
        report=ranked[units.of_gates],
        now=now,
    )
    return Evidence(
        rollup=rollup,
        report=ranked[units.shown],
        shown=shown,
        reviews=await gate_review.review(store, reading, shown),
    )


async def _quality(
    store: EvidenceStore, subject: Subject, rollup: Rollup, *, alpha: float, now: float
) -> tuple[Quality | None, Rollup | None]:
    """Who was right; and the label counts to rank by, where the experiment was started to rank by labels."""
    epoch, by_labels = subject.epoch, subject.experiment.rank_by is RankBy.LABELS
    model = subject.configuration.models[subject.experiment.model]
    terms = model.labels
    if terms is None and not by_labels:
        return None, None
    # Who ends the keeping of answers does not change what the experiment ranks by.
    delay = terms.delay if terms else 0.0
    buckets = await store.buckets(epoch.id, COUNTED_FAMILIES)
    cohorts = [counts for start, counts in buckets.items() if start + epoch.bucket_seconds <= now - delay]
    labelled = sum(cohorts, Rollup())
    found = quality.assess(
        labelled,
        labelled=quality.labelled_requests(rollup, epoch.live),
        live=epoch.live,
        candidates=epoch.candidates,
        alpha=alpha,
        delay=delay,
        margin=model.gates.inferiority,
    )
    return found, labelled if by_labels else None


async def _experiment(
    store: ControlStore, configuration: Configuration, *, model: str, experiment_id: int
) -> Experiment:
    if not experiment_id:
        return await _latest(store, names.only_model(configuration, model).name)
    if model:
        names.model_of(configuration, model)
    found = await store.experiment(experiment_id)
    if found is None or (model and found.model != model):
        known, whose = await store.experiments(model or None), f" of {model}" if model else ""
        raise NotFound(
            f"there is no experiment {experiment_id}{whose}; there is {names.listed(str(each.id) for each in known)}"
        )
    return found


async def _latest(store: ControlStore, model: str) -> Experiment:
    found = await store.latest_experiment(model)
    if found is None:
        raise FailedPrecondition(f"{model} has no experiment yet; start one with `shadowctl start VERSION…`")
    return found


def _shown(epoch: Epoch, wanted: Sequence[str]) -> Sequence[str]:
    """The candidates that are named, once it is sure that the epoch has them."""
    if len(set(wanted)) < len(wanted):
        raise InvalidInput(f"candidates: name each once, not {names.listed(wanted)}")
    for name in wanted:
        if name == epoch.live:
            raise FailedPrecondition(
                f"{name} is the live version, which {names.listed(epoch.candidates)} are compared with; leave it out"
            )
        if name not in epoch.candidates:
            raise NotFound(
                f"experiment {epoch.experiment_id} of {epoch.model} does not compare {name!r}; its candidates are "
                f"{names.listed(epoch.candidates)}"
            )
    return wanted


def _ended_before(each: Epoch, epoch: Epoch) -> bool:
    end = math.inf if each.until_revision is None else each.until_revision
    return end < (math.inf if epoch.until_revision is None else epoch.until_revision)
