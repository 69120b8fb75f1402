"""How an experiment got to where it is, and what its answers are made of: what its pages draw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multishadow_server.core import divergence_course, evidence_course, session_report
from multishadow_server.core.divergence_course import DivergenceCourse
from multishadow_server.core.evidence_course import EvidenceCourse
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.rollup import Family, Rollup, Tables
from multishadow_server.core.session_terms import Unit
from multishadow_server.service import comparison_report, session_ranking
from multishadow_server.service.comparison_report import DEFAULT_ALPHA, Subject
from multishadow_server.service.ports import ControlStore


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentCourse:
    """An experiment over time.

    Args:
        experiment, epoch: what it is of.
        evidence: of the ranking; None where there is none.
        divergence: of every candidate.
        unit: what was counted.
        by_labels: whether the evidence is about labels.
        read_at: seconds since the Unix epoch.
    """

    experiment: Experiment
    epoch: Epoch
    evidence: EvidenceCourse | None
    divergence: DivergenceCourse
    unit: Unit
    by_labels: bool
    read_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedAnswers:
    """All counts of an epoch, summed over time; `read_at` is in seconds since the Unix epoch."""

    experiment: Experiment
    epoch: Epoch
    tables: Tables
    read_at: float


async def course(
    store: ControlStore, *, experiment_id: int, clock: Callable[[], float], alpha: float = DEFAULT_ALPHA
) -> ExperimentCourse:
    """An experiment's present epoch over time, of the same counts as `comparison_report.compare`.

    Raises:
        NotFound: no such experiment.
        FailedPrecondition: there is nothing to compare yet.
        StoreUnavailable: the database is away.
    """
    subject = await comparison_report.subject_of(store, model="", experiment_id=experiment_id)
    unit = _unit(subject)
    by_labels = subject.experiment.rank_by is RankBy.LABELS
    read_at, epoch = clock(), subject.epoch
    families = session_report.FAMILIES if unit is Unit.SESSION else (Family.OUTCOME, Family.PAIR)
    counted = await store.buckets(epoch.id, families)
    judged = await store.buckets(epoch.id, [Family.LABEL_PAIR]) if by_labels else counted

    def build() -> tuple[EvidenceCourse | None, DivergenceCourse]:
        by_bucket = _tables(counted, unit)
        cohorts = _old_enough(judged, subject, now=read_at) if by_labels else by_bucket
        return (
            evidence_course.build(
                cohorts,
                versions=epoch.candidates,
                bucket_seconds=epoch.bucket_seconds,
                alpha=alpha,
                family=Family.LABEL_PAIR if by_labels else Family.PAIR,
            ),
            divergence_course.build(
                by_bucket, versions=epoch.candidates, bucket_seconds=epoch.bucket_seconds, alpha=alpha
            ),
        )

    evidence, divergence = await asyncio.to_thread(build)
    return ExperimentCourse(
        experiment=subject.experiment,
        epoch=epoch,
        evidence=evidence,
        divergence=divergence,
        unit=unit,
        by_labels=by_labels,
        read_at=read_at,
    )


async def answers(store: ControlStore, *, experiment_id: int, clock: Callable[[], float]) -> CountedAnswers:
    """What an experiment's present epoch counted, over all of its time.

    Raises:
        NotFound, FailedPrecondition, StoreUnavailable: as for `course`.
    """
    subject = await comparison_report.subject_of(store, model="", experiment_id=experiment_id)
    read_at, rollup = clock(), await store.rollup(subject.epoch.id)
    return CountedAnswers(
        experiment=subject.experiment,
        epoch=subject.epoch,
        tables=await asyncio.to_thread(rollup.tables),
        read_at=read_at,
    )


def _unit(subject: Subject) -> Unit:
    model = subject.configuration.models[subject.experiment.model]
    return session_ranking.units(model, subject.experiment, "").shown


def _tables(buckets: Mapping[int, Rollup], unit: Unit) -> dict[int, Tables]:
    if unit is Unit.SESSION:
        return {start: session_report.as_requests(rollup).tables() for start, rollup in buckets.items()}
    return {start: rollup.tables() for start, rollup in buckets.items()}


def _old_enough(buckets: Mapping[int, Rollup], subject: Subject, *, now: float) -> dict[int, Tables]:
    """The cohorts that a ranking by labels goes by."""
    terms = subject.configuration.models[subject.experiment.model].labels
    youngest = now - (terms.delay if terms else 0.0)
    return {
        start: rollup.tables() for start, rollup in buckets.items() if start + subject.epoch.bucket_seconds <= youngest
    }
