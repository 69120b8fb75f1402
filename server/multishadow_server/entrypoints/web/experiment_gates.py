"""Gates as a page shows them: what is missing, by when it is likely to be there, and what people can do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from multishadow_server.core import gate_outlook
from multishadow_server.core.experiment import collected_for
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gate_outlook import Expectation, Pace, Prospect
from multishadow_server.core.gates import Attestation, Gate, GateName, GateState, Review, Verdict
from multishadow_server.core.rollup import Family, Tables
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.service.comparison_report import ExperimentReport

VERDICT_KINDS: Mapping[Verdict, str] = {
    Verdict.PROMOTE: "good",
    Verdict.REJECT: "bad",
    Verdict.HOLD: "warn",
    Verdict.INCONCLUSIVE: "warn",
    Verdict.NO_DATA: "plain",
}
ATTESTED_BY: Mapping[GateName, Attestation] = {
    GateName.QUALITY: Attestation.AGREEMENT_ONLY,
    GateName.TOP_REVIEWED: Attestation.TOP_REVIEWED,
    GateName.COST: Attestation.COST,
    GateName.ROLLBACK_PLAN: Attestation.ROLLBACK_PLAN,
}
_ATTEST_WORDS: Mapping[Attestation, str] = {
    Attestation.AGREEMENT_ONLY: "Agreement is enough here",
    Attestation.TOP_REVIEWED: "The worst were looked at",
    Attestation.COST: "The cost is accepted",
    Attestation.ROLLBACK_PLAN: "There is a plan to roll back",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What forecasts go by, beside the report.

    Args:
        limits: of the model.
        hours: outcomes by time bucket.
        stored: divergent comparisons that are kept, by candidate.
    """

    limits: GateLimits
    hours: Mapping[int, Tables]
    stored: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRow:
    """One gate: its finding, how it looks, what is expected, and what people may vouch for.

    Args:
        gate: the finding.
        mark, kind: a word for its state, and how its badge looks.
        expected: by when it is likely to pass, in words; `at` is the time, where one is known.
        at: seconds since the Unix epoch.
        attests: what somebody can vouch for to pass it; empty where nothing, or it passes.
        attest_words: the same as a button says it.
        waivable: whether there is anything to waive.
    """

    gate: Gate
    mark: str
    kind: str
    expected: str
    at: float | None
    attests: str
    attest_words: str
    waivable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateGates:
    """A candidate's gates, with what they say together."""

    review: Review
    kind: str
    rows: tuple[GateRow, ...]
    passing: int
    latest: float | None


async def read_pace(desk: Desk, found: ExperimentReport) -> Counted:
    """What forecasts go by. Raises StoreUnavailable."""
    buckets = await desk.store.buckets(found.epoch.id, [Family.OUTCOME, Family.STORED])
    hours = {start: rollup.tables() for start, rollup in buckets.items()}
    stored = {
        version: sum(tables.get((Family.STORED, version), {}).get("divergent", 0) for tables in hours.values())
        for version in found.epoch.candidates
    }
    configuration = await desk.store.read(experiments=False)
    return Counted(limits=configuration.models[found.experiment.model].gates, hours=hours, stored=stored)


def view(found: ExperimentReport, counted: Counted, *, now: float) -> tuple[CandidateGates, ...]:
    """Every candidate's gates, in the report's order.

    Args:
        found: the report.
        counted: what forecasts go by.
        now: seconds since the Unix epoch.
    """
    return tuple(_candidate(found, counted, review, now=now) for review in found.reviews)


def _candidate(found: ExperimentReport, counted: Counted, review: Review, *, now: float) -> CandidateGates:
    candidate = next(each for each in found.report.candidates if each.version == review.version)
    pace = _pace(found, counted, review.version, now=now)
    rows = tuple(
        _row(
            gate,
            gate_outlook.expectation(gate, candidate=candidate, report=found.report, limits=counted.limits, pace=pace),
        )
        for gate in review.gates
    )
    times = [row.at for row in rows if row.at is not None]
    return CandidateGates(
        review=review,
        kind=VERDICT_KINDS[review.verdict],
        rows=rows,
        passing=sum(not gate.holds_up for gate in review.gates),
        latest=max(times, default=None),
    )


def _pace(found: ExperimentReport, counted: Counted, version: str, *, now: float) -> Pace:
    experiment, epoch = found.experiment, found.epoch
    ended = min(now, experiment.ends_at, experiment.stopped_at or math.inf)
    collected = collected_for(epoch, list(counted.hours), until=ended)
    return Pace(
        now=now,
        ends_at=experiment.ends_at if experiment.running else None,
        per_second=gate_outlook.comparisons_per_second(
            counted.hours, version, bucket_seconds=epoch.bucket_seconds, now=now
        ),
        collected_until=now + counted.limits.minimum_duration - collected if counted.hours else None,
        stored=counted.stored[version],
    )


def _row(gate: Gate, expected: Expectation | None) -> GateRow:
    mark, kind = _mark(gate)
    attestation = ATTESTED_BY.get(gate.name)
    open_to_people = attestation is not None and gate.state is GateState.UNKNOWN
    return GateRow(
        gate=gate,
        mark=mark,
        kind=kind,
        expected=_words(expected),
        at=None if expected is None else expected.at,
        attests=str(attestation) if attestation is not None and open_to_people else "",
        attest_words=_ATTEST_WORDS[attestation] if attestation is not None and open_to_people else "",
        waivable=gate.holds_up,
    )


def _mark(gate: Gate) -> tuple[str, str]:
    if gate.waiver is not None and gate.state is not GateState.PASS:
        return "waived", "plain"
    if gate.state is GateState.PASS:
        return "passes", "good"
    if gate.state is GateState.FAIL:
        return "fails", "warn" if gate.advisory else "bad"
    return ("open", "warn") if gate.holds_up else ("silent", "plain")


def _words(expected: Expectation | None) -> str:
    if expected is None:
        return ""
    return {
        Prospect.LIKELY: "about",
        Prospect.TOO_LATE: "after the time box, about",
        Prospect.PEOPLE: "when somebody does it",
        Prospect.NOT_SO: "not as things are",
        Prospect.UNKNOWN: "nobody can say yet",
    }[expected.prospect]
