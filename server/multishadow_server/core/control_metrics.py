"""What control exposes: how experiments, rollouts, alarms and dead letters stand, as samples of metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from multishadow_server.core.alarms import Alarm, AlarmKind
from multishadow_server.core.dead_letters import LetterState
from multishadow_server.core.findings import CandidateReport
from multishadow_server.core.gates import GateName, GateState, Review
from multishadow_server.core.metric_samples import CONTROL, Sample, sample
from multishadow_server.core.process_metrics import FlagStanding, about_flags
from multishadow_server.core.rollout import Rollout, RolloutState

# Rounds of control look at a stage every second; what is over for longer is held.
HELD_AFTER_SECONDS = 10.0
_OF_PROCESSES = frozenset({AlarmKind.LAG, AlarmKind.FLAGS_STALE, AlarmKind.ROUTER_MISSING, AlarmKind.WORKER_MISSING})
_GOING_ON = ("running", "held", "paused")


class Drift(StrEnum):
    """Which way a candidate's rate of divergence moved from one hour to another."""

    RISING = "rising"
    FALLING = "falling"


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateStanding:
    """One candidate of a running experiment.

    Args:
        model: whose experiment.
        report: it, against the live version.
        review: what the gates say.
        drift: None when no hour is unlike those before it.
        segments: kinds of request that diverge more often than the others, as is proven; None when not known.
    """

    model: str
    report: CandidateReport
    review: Review
    drift: Drift | None
    segments: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How everything stands, as the store told last.

    Args:
        now: when it was read, in seconds since the Unix epoch.
        live: the version that is live, by model.
        candidates: of running experiments.
        rollouts: those that go on.
        alarms: those that are on.
        letters: dead letters by model, version and state.
        processes: how many reported of late, by kind.
    """

    now: float
    live: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[CandidateStanding] = ()
    rollouts: Sequence[Rollout] = ()
    alarms: Sequence[Alarm] = ()
    letters: Mapping[tuple[str, str, LetterState], int] = field(default_factory=dict)
    processes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlStanding:
    """How control is.

    Args:
        counters: by which it reports itself.
        flags: those that it serves.
        standing: None when nothing could be read yet.
        age: of that reading, in seconds.
        failures: readings that failed.
    """

    counters: Mapping[str, int]
    flags: FlagStanding
    standing: Standing | None
    age: float
    failures: int


def of_control(control: ControlStanding) -> Iterator[Sample]:
    """What control exposes."""
    yield from CONTROL.samples(control.counters)
    yield from about_flags(control.flags)
    yield sample("standing_known", control.standing is not None)
    yield sample("standing_failures_total", control.failures)
    if control.standing is None:
        return
    standing = control.standing
    yield sample("standing_age_seconds", control.age)
    for model, version in standing.live.items():
        yield sample("live_version_info", 1, model=model, version=version)
    for process, count in standing.processes.items():
        yield sample("processes", count, process=process)
    yield from _alarms(standing.alarms)
    for candidate in standing.candidates:
        yield from _candidate(candidate)
    for rollout in standing.rollouts:
        yield from _rollout(rollout, standing.now)
    for (model, version, state), count in standing.letters.items():
        yield sample("dead_letters_stored", count, model=model, version=version, state=state)


def _alarms(alarms: Sequence[Alarm]) -> Iterator[Sample]:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for alarm in alarms:
        kind, model, subject = alarm.key
        # An alarm of a probe is of `version/probe`; drops without a model are of a router.
        version = "" if kind in _OF_PROCESSES or not model else subject.partition("/")[0]
        counts[kind, model, version, "true" if alarm.acknowledged else "false"] += 1
    for (kind_, model, version, acknowledged), count in counts.items():
        yield sample("alarms", count, kind=kind_, model=model, version=version, acknowledged=acknowledged)


def _candidate(candidate: CandidateStanding) -> Iterator[Sample]:
    report = candidate.report
    whose = {"model": candidate.model, "version": report.version}
    yield sample("experiment_comparisons", report.n, **whose)
    if report.divergence is not None:
        yield sample("experiment_divergence_ratio", report.divergence.estimate, **whose)
        yield sample("experiment_divergence_lower_ratio", report.divergence.lower, **whose)
        yield sample("experiment_divergence_upper_ratio", report.divergence.upper, **whose)
    if report.n + report.uncomparable + report.dropped:
        yield sample("experiment_completeness_ratio", report.completeness, **whose)
    states = Counter(gate.state for gate in candidate.review.gates)
    for state in GateState:
        yield sample("experiment_gates", states[state], **whose, state=state)
    ratio = next(gate for gate in candidate.review.gates if gate.name is GateName.SAMPLE_RATIO)
    yield sample("experiment_sample_ratio_mismatch", ratio.state is GateState.FAIL, **whose)
    for direction in Drift:
        yield sample("experiment_drift", candidate.drift is direction, **whose, direction=direction)
    if candidate.segments is not None:
        yield sample("experiment_segments_diverging", candidate.segments, **whose)


def _rollout(rollout: Rollout, now: float) -> Iterator[Sample]:
    whose = {"model": rollout.model, "version": rollout.version}
    overdue = max(0.0, now - rollout.dwell_ends_at)
    held = rollout.state is RolloutState.RUNNING and overdue > HELD_AFTER_SECONDS
    present = "held" if held else rollout.state.value
    yield sample("rollout_share_ratio", rollout.percent / 100, **whose)
    yield sample("rollout_overdue_seconds", overdue, **whose)
    for state in _GOING_ON:
        yield sample("rollout_state", state == present, **whose, state=state)
