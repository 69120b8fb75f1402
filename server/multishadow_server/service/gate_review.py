"""Reading what gates look at."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import declared_shares, gate_findings, gates, segment_report, serving
from multishadow_server.core import windows as hours
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch, Experiment, RankBy, collected_for
from multishadow_server.core.findings import CandidateReport, Report
from multishadow_server.core.gate_findings import Findings
from multishadow_server.core.gates import Record, Review
from multishadow_server.core.model import Model
from multishadow_server.core.rollup import Family, Rollup, Tables
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from multishadow_server.service.ports import EvidenceStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was read for a report, and gates look at too.

    Args:
        configuration: models and flags.
        experiment, epoch: what is reported on.
        rollup: the epoch's counts.
        buckets: counts of outcomes by the start of the time bucket, oldest first.
        report: on all candidates.
        now: seconds since the Unix epoch.
    """

    configuration: Configuration
    experiment: Experiment
    epoch: Epoch
    rollup: Rollup
    buckets: Mapping[int, Rollup]
    report: Report
    now: float


async def review(store: EvidenceStore, reading: Reading, shown: Sequence[str]) -> tuple[Review, ...]:
    """What the gates say of candidates, in the report's order.

    Args:
        store: where attestations, waivers and flags are.
        reading: what they look at.
        shown: names of the candidates.

    Raises:
        StoreUnavailable: the database is away.
    """
    by_kind = await store.buckets(reading.epoch.id, segment_report.FAMILIES)
    evidence = _Evidence(
        model=reading.configuration.models[reading.experiment.model],
        records=await store.gate_records(reading.epoch.id),
        shares=await _shares(store, reading),
        by_kind={start: rollup.tables() for start, rollup in by_kind.items()},
        tables=reading.rollup.tables(),
        hours={start: rollup.tables() for start, rollup in reading.buckets.items()},
    )
    candidates = [candidate for candidate in reading.report.candidates if candidate.version in shown]
    return tuple(
        [
            # Weeks of segments take a while, in which control has other things to do.
            await asyncio.to_thread(
                _review, reading, evidence, candidate, reviewed=await _reviewed(store, reading, candidate.version)
            )
            for candidate in candidates
        ]
    )


async def _reviewed(store: EvidenceStore, reading: Reading, version: str) -> int:
    """How many of the candidate's least similar comparisons people have looked at."""
    # Which those are takes a look at all that is stored; who has no verdicts at all need not be asked about.
    if all(counts.version != version for counts in reading.report.review_verdicts):
        return 0
    return (await store.reviewed_of_top(reading.epoch.id, version))[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Evidence:
    """What all candidates share, beyond what the report is made of."""

    model: Model
    records: Sequence[Record]
    shares: Mapping[str, float] | None
    by_kind: Mapping[int, Tables]
    tables: Tables
    hours: Mapping[int, Tables]


def _review(reading: Reading, evidence: _Evidence, candidate: CandidateReport, *, reviewed: int) -> Review:
    version, epoch, records = candidate.version, reading.epoch, evidence.records
    ended = min(reading.now, reading.experiment.ends_at, reading.experiment.stopped_at or math.inf)
    collected = collected_for(epoch, reading.buckets, until=ended)
    found = Findings(
        report=reading.report,
        candidate=candidate,
        tables=evidence.tables,
        hours=evidence.hours,
        bucket_seconds=epoch.bucket_seconds,
        candidates=epoch.candidates,
        by_labels=reading.experiment.rank_by is RankBy.LABELS,
        collected_for=collected,
        shadowed_for=hours.open_seconds(epoch.windows, since=ended - collected, until=ended),
        shares=evidence.shares,
        labels=_labels(reading.report, version),
        segments=segment_report.of_tables(evidence.by_kind, version=version, alpha=reading.report.alpha),
        divergent_samples=evidence.tables.get((Family.STORED, version), {}).get("divergent", 0),
        reviewed=reviewed,
        serving=version in serving.serving_versions(evidence.model, reading.configuration.flags),
        attested=gates.attestations(version, records),
    )
    return gates.review(version, gate_findings.find(found, evidence.model.gates), n=candidate.n, records=records)


def _labels(report: Report, version: str) -> LabelledPair:
    """The candidate beside the live version, on labelled requests that are old enough."""
    known = report.quality.candidates if report.quality else ()
    for quality in known:
        if quality.version == version:
            return LabelledPair(
                only_candidate_right=quality.only_right,
                only_live_right=quality.only_live_right,
                alike=quality.n - quality.only_right - quality.only_live_right,
            )
    return LabelledPair(only_candidate_right=0, only_live_right=0, alike=0)


async def _shares(store: EvidenceStore, reading: Reading) -> Mapping[str, float] | None:
    """What part of the largest sample each candidate should have got; None when that changed, or is not known."""
    epoch = reading.epoch
    keys = {version: f"{epoch.model}.{version}" for version in epoch.candidates}
    last = None if epoch.until_revision is None else epoch.until_revision - 1
    written = await store.flags_within(list(keys.values()), first_revision=epoch.from_revision, last_revision=last)
    return declared_shares.of_largest(keys, [(record.revision, record.key, record.definition) for record in written])
