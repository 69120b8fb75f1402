"""Whether an experiment's candidates may be given more requests, and what that waits for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multishadow_server.core import windows as hours
from multishadow_server.core.experiment import Experiment, in_words
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.observation import COUNTED, Outcome
from multishadow_server.core.rollup import Family, Tables
from multishadow_server.core.schedule import Calls
from multishadow_server.core.statistics import sequences

ALPHA = 0.05
LONGEST_LAG = 60.0
FAILED = (Outcome.ERROR, Outcome.TIMEOUT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What is seen of an experiment when it is asked whether it may go on.

    Args:
        now: seconds since the Unix epoch.
        epoch_id: the present epoch; 0 when there is none.
        calls: what became of copies so far in that epoch, by candidate.
        climbing: candidates whose flags say what the experiment last wrote there; the others are in somebody's hands.
        lag: seconds that the slowest worker is behind; None when no worker reports itself.
        limits: the model's.
    """

    now: float
    epoch_id: int
    calls: Mapping[str, Calls]
    climbing: Collection[str]
    lag: float | None
    limits: GateLimits


def calls_of(tables: Tables, candidates: Sequence[str]) -> Mapping[str, Calls]:
    """What became of candidates' copies, from an epoch's counts."""
    counts = {version: tables.get((Family.OUTCOME, version), {}) for version in candidates}
    return {
        version: Calls(
            counted=sum(outcomes.get(outcome, 0) for outcome in COUNTED),
            failed=sum(outcomes.get(outcome, 0) for outcome in FAILED),
            dropped=outcomes.get(Outcome.DROPPED, 0),
        )
        for version, outcomes in counts.items()
    }


def is_climbing(experiment: Experiment) -> bool:
    """Whether there is a further step."""
    progress = experiment.progress
    return (
        experiment.running
        and progress is not None
        and progress.step + 1 < len(experiment.schedule.shares(experiment.percent))
    )


def dwell_left(experiment: Experiment, *, now: float) -> float:
    """Seconds inside windows that the present step still has to last; 0 when it lasted for long enough."""
    assert experiment.progress is not None
    schedule, since = experiment.schedule, experiment.progress.since
    return max(0.0, schedule.dwell - hours.open_seconds(schedule.windows, since=since, until=now))


def hindrances(experiment: Experiment, sight: Sight) -> tuple[str, ...]:
    """What the next step waits for, in words; nothing when it is due. Only for an experiment that `is_climbing`.

    A step is due when it has lasted for its dwell, and during it every candidate that takes part has answered, neither
    failures nor drops are proven above the model's limits, and no worker is far behind. Proven: by the confidence
    sequence of a rate at α = 5 % over all candidates, so that looking every few seconds costs nothing.
    """
    progress = experiment.progress
    assert progress is not None
    if not hours.open_at(experiment.schedule.windows, sight.now):
        return ("a window to open",)
    if missing := dwell_left(experiment, now=sight.now):
        return (f"{in_words(_rounded_up(missing))} more at {progress.percent:g} %",)
    return (*_of_workers(sight), *_of_candidates(experiment, sight))


def _rounded_up(seconds: float) -> float:
    """To whole minutes, where there are several: people read this."""
    unit = 60 if seconds > 120 else 1
    return math.ceil(seconds / unit) * unit


def _of_workers(sight: Sight) -> Sequence[str]:
    if sight.lag is None:
        return ["a worker: none reports itself"]
    if sight.lag > LONGEST_LAG:
        return [f"workers to catch up: they are {in_words(round(sight.lag))} behind"]
    return []


def _of_candidates(experiment: Experiment, sight: Sight) -> Sequence[str]:
    candidates = [version for version in experiment.candidates if version in sight.climbing]
    if not candidates:
        return ["a candidate: the flags of all were set by hand, or it was promoted"]
    log_threshold = math.log(len(candidates) / ALPHA)
    return [
        f"{version}: {found}"
        for version in candidates
        if (found := _trouble(_at_this_step(experiment, sight, version), sight.limits, log_threshold))
    ]


def _at_this_step(experiment: Experiment, sight: Sight, version: str) -> Calls:
    progress, calls = experiment.progress, sight.calls.get(version, Calls())
    assert progress is not None
    # In another epoch than the step began in, everything is new.
    return calls.since(progress.calls.get(version, Calls())) if progress.epoch_id == sight.epoch_id else calls


def _trouble(calls: Calls, limits: GateLimits, log_threshold: float) -> str:
    if not calls.counted + calls.dropped:
        return "a first answer at this step"
    copies, most_dropped = calls.counted + calls.dropped, 1 - limits.completeness
    if _proven_above(calls.dropped, copies, most_dropped, log_threshold):
        return f"fewer drops: {calls.dropped:,} of {copies:,} copies, proven above {100 * most_dropped:.3g} %"
    if not calls.counted:
        return "a first answer at this step"
    if _proven_above(calls.failed, calls.counted, limits.failures, log_threshold):
        return (
            f"fewer failures: {calls.failed:,} of {calls.counted:,} calls, proven above {100 * limits.failures:.3g} %"
        )
    return ""


def _proven_above(bad: int, n: int, limit: float, log_threshold: float) -> bool:
    lower, _ = sequences.rate(bad=np.array([float(bad)]), n=np.array([float(n)]), log_threshold=log_threshold)
    return bool(lower[0] > limit)
