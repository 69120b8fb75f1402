"""Making weekly reports, and finding those that are kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import cost, week_counts, weekly_report, weeks
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.cost import Estimate, Traffic
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.findings import Report
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.weekly_report import MOST_CASES, LiveWeek, Material, WeeklyReport
from multishadow_server.core.weeks import Week
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import comparison_report, costs, names
from multishadow_server.service.as_of import AsOf
from multishadow_server.service.comparison_report import Subject
from multishadow_server.service.ports import (
    ControlStore,
    KeptReport,
    ReportLine,
    ReportRenderer,
    WeeklyReportStore,
)

MOST_LISTED = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some reports that are kept, and whether there are more."""

    lines: Sequence[ReportLine]
    more: bool


async def build(
    store: ControlStore, reports: WeeklyReportStore, *, model: str, week: str, oldest_days: int, now: float
) -> WeeklyReport:
    """Report on a model's week, from what is stored now.

    Args:
        store: where experiments and counts are.
        reports: where stored comparisons and callers' requests are.
        model: empty: the only model there is.
        week: such as "2026-W47"; empty: this week.
        oldest_days: days for which counts are kept by the hour; no week before can be told apart.
        now: seconds since the Unix epoch.

    Raises:
        InvalidInput: that is no week, it has not begun, or the model must be named.
        NotFound: there is no such model.
        FailedPrecondition: the week is too long ago.
        StoreUnavailable: the database is away.
    """
    configuration = await store.read()
    wanted = weeks.named(week) if week else weeks.at(now)
    if wanted.starts_at > now:
        raise InvalidInput(f"week: {wanted} has not begun; this is {weeks.at(now)}")
    if wanted.starts_at < now - 86_400.0 * oldest_days:
        raise FailedPrecondition(
            f"{wanted} is more than {oldest_days} days ago (MULTISHADOW_HOURLY_COUNTS_DAYS), and counts of ended "
            "epochs are added up by then; `shadowctl report --list` names the reports that were kept"
        )
    of = names.only_model(configuration, model)
    until = min(float(wanted.ends_at), now)
    counts = await reports.live_counts(of.name, since=wanted.starts_at, until=until)
    requests, seconds = cost.prorated(counts, since=wanted.starts_at, until=until)
    live = LiveWeek(requests=round(requests), seconds=seconds)
    materials = [
        material
        for subject in await _subjects(store, configuration, of.name, wanted)
        if (material := await _material(store, reports, subject, week=wanted, until=until, live=live)) is not None
    ]
    # Numbers of weeks of hours; calls of others must not wait for them.
    return await asyncio.to_thread(
        weekly_report.build, model=of.name, week=wanted, materials=materials, live=live, now=now
    )


async def make(
    store: ControlStore,
    reports: WeeklyReportStore,
    renderer: ReportRenderer,
    *,
    model: str,
    week: str,
    oldest_days: int,
    now: float,
    to_keep: bool = False,
) -> KeptReport:
    """Report on a model's week as `build` does, and write it.

    Args:
        store: see `build`.
        reports: likewise.
        renderer: writes it.
        model: see `build`.
        week: likewise.
        oldest_days: likewise.
        now: likewise.
        to_keep: leave out what is erased when somebody asks for it, and would stay in a report that is kept.
    """
    report = await build(store, reports, model=model, week=week, oldest_days=oldest_days, now=now)
    shown = weekly_report.without_traffic(report) if to_keep else report
    texts = await asyncio.to_thread(renderer.render, shown)
    line = ReportLine(model=report.model, week=report.week, built_at=report.built_at, headline=report.headline)
    return KeptReport(line=line, texts=texts)


async def kept(store: ControlStore, reports: WeeklyReportStore, *, model: str, week: str) -> KeptReport:
    """A report that was made by schedule.

    Raises:
        InvalidInput: that is no week, or the model must be named.
        NotFound: no such model, or no report on that week.
        StoreUnavailable: the database is away.
    """
    wanted = weeks.named(week)
    of = names.only_model(await store.read(experiments=False), model)
    found = await reports.kept(of.name, wanted)
    if found is None:
        raise NotFound(
            f"there is no report on {wanted} of {of.name}: control keeps one of each week that is over, when an "
            f"experiment ran in it; `shadowctl report --week {wanted}` makes one now"
        )
    return found


async def page(
    store: ControlStore,
    reports: WeeklyReportStore,
    *,
    model: str = "",
    after_week: str = "",
    after_model: str = "",
    size: int = 0,
) -> Page:
    """Reports that are kept, the newest week first, then by model.

    Args:
        store: tells which models there are.
        reports: where they are kept.
        model: only this model's; empty: of all.
        after_week: go on after the report on that week, with `after_model`; empty: from the newest on.
        after_model: likewise.
        size: at most so many; 0: fifty.

    Raises:
        InvalidInput: that is no week, or the size is out of range.
        NotFound: there is no such model.
        StoreUnavailable: the database is away.
    """
    size = size or 50
    if not 0 < size <= MOST_LISTED:
        raise InvalidInput(f"page_size: {size} is out of range; allowed are 1 to {MOST_LISTED}")
    if model:
        names.model_of(await store.read(experiments=False), model)
    before = None
    if after_week or after_model:
        before = ReportLine(model=after_model, week=weeks.named(after_week), built_at=0.0, headline="")
    lines = await reports.lines(model, before=before, most=size + 1)
    return Page(lines=lines[:size], more=len(lines) > size)


async def models_with_experiments(store: ControlStore, week: Week) -> Sequence[str]:
    """Models that an experiment ran of in the week, by name. Raises StoreUnavailable."""
    return sorted({each.model for each in await store.experiments() if _ran_in(each, week)})


def _ran_in(experiment: Experiment, week: Week) -> bool:
    return experiment.started_at < week.ends_at and (experiment.stopped_at or math.inf) > week.starts_at


async def _subjects(store: ControlStore, configuration: Configuration, model: str, week: Week) -> Sequence[Subject]:
    """Every epoch that was open in the week, the newest first."""
    return [
        Subject(configuration=configuration, experiment=experiment, epoch=epoch, epochs=epochs)
        for experiment in await store.experiments(model)
        if _ran_in(experiment, week)
        for epochs in [await store.epochs(experiment.id)]
        for epoch in sorted(epochs, key=lambda each: each.number, reverse=True)
        if epoch.opened_at < week.ends_at and epoch.closed_at > week.starts_at
    ]


async def _material(
    store: ControlStore, reports: WeeklyReportStore, subject: Subject, *, week: Week, until: float, live: LiveWeek
) -> Material | None:
    """What is read of an epoch; None of one that ended without counting anything in the week."""
    epoch = subject.epoch
    then = AsOf(store=store, reports=reports, until=until)
    rollups = await then.buckets(epoch.id, week_counts.FAMILIES)
    if epoch.closed_at <= until and not any(week.starts_at <= start < week.ends_at for start in rollups):
        return None
    found = await comparison_report.evidence_on(then, subject, now=until)
    return Material(
        experiment=subject.experiment,
        epoch=epoch,
        rollups=rollups,
        report=found.report,
        reviews=found.reviews,
        cases={
            version: await reports.cases(epoch.id, version, since=week.starts_at, until=week.ends_at, most=MOST_CASES)
            for version in epoch.candidates
        },
        cost=_cost(subject, found.report, rollups, live=live, until=until),
    )


def _cost(
    subject: Subject, report: Report, rollups: Mapping[int, Rollup], *, live: LiveWeek, until: float
) -> Estimate | None:
    """Of an experiment that went on at the end; what has ended costs nothing any more."""
    if (subject.experiment.stopped_at or math.inf) <= until or subject.epoch.closed_at <= until:
        return None
    traffic = Traffic(
        rps=live.per_second,
        measured=f"about {live.requests:,} live requests in {live.seconds / 3600:,.1f} h, as routers counted them",
        requests=live.requests,
        seconds=live.seconds,
    )
    return costs.of_experiment(subject, report, rollups, traffic=traffic, now=until)
