"""Reporting on a candidate by kinds of request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import segment_report
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.segment_report import SegmentReport
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service import comparison_report, names
from multishadow_server.service.comparison_report import DEFAULT_ALPHA
from multishadow_server.service.ports import ControlStore


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateSegments:
    """A candidate's segments with what they are of; `read_at` is in seconds since the Unix epoch."""

    experiment: Experiment
    epoch: Epoch
    report: SegmentReport
    read_at: float


async def list_segments(
    store: ControlStore,
    *,
    model: str,
    candidate: str,
    experiment_id: int,
    alpha: float,
    clock: Callable[[], float],
) -> CandidateSegments:
    """On which kinds of request a candidate diverges more, or less, often than on the rest.

    Args:
        store: where experiments and counts are.
        model: empty: the only model there is, or the experiment's.
        candidate: empty: the only candidate there is.
        experiment_id: 0: the running experiment, or else the latest.
        alpha: largest expected share of false alerts, in (0, 1).
        clock: the time, in seconds since the Unix epoch.

    Raises:
        InvalidInput: alpha is out of range, or the model or candidate must be named.
        NotFound: no such model, experiment or candidate.
        FailedPrecondition: there is nothing to compare yet.
        StoreUnavailable: the database is away.
    """
    comparison_report.check_alpha(alpha)
    subject = await comparison_report.subject_of(store, model=model, experiment_id=experiment_id)
    version = _candidate(subject.epoch, candidate)
    read_at = clock()
    buckets = await store.buckets(subject.epoch.id, segment_report.FAMILIES)
    return CandidateSegments(
        experiment=subject.experiment,
        epoch=subject.epoch,
        report=await asyncio.to_thread(segment_report.build, buckets, version=version, alpha=alpha),
        read_at=read_at,
    )


async def worse_than_the_rest(store: ControlStore, epoch: Epoch) -> Mapping[str, int]:
    """Of each candidate of an epoch, how many kinds of request are proven to diverge more often than the others.

    Raises:
        StoreUnavailable: the database is away.
    """
    buckets = await store.buckets(epoch.id, segment_report.FAMILIES)
    return await asyncio.to_thread(_worse, buckets, epoch.candidates)


def _worse(buckets: Mapping[int, Rollup], candidates: Sequence[str]) -> Mapping[str, int]:
    tables = {start: rollup.tables() for start, rollup in buckets.items()}
    reports = [segment_report.of_tables(tables, version=version, alpha=DEFAULT_ALPHA) for version in candidates]
    return {report.version: sum(segment.is_worse for segment in report.segments) for report in reports}


def _candidate(epoch: Epoch, wanted: str) -> str:
    known = names.listed(epoch.candidates)
    if not wanted:
        if len(epoch.candidates) != 1:
            raise InvalidInput(f"candidate: name one of {known}")
        return epoch.candidates[0]
    if wanted not in epoch.candidates:
        raise NotFound(
            f"experiment {epoch.experiment_id} of {epoch.model} does not compare {wanted!r}; its candidates are {known}"
        )
    return wanted
