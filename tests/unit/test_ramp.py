"""What the next step of a ramp waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from multishadow_server.core import ramp, windows
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.ramp import Sight
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.schedule import Calls, Progress, Schedule

NOON = 1_795_435_200.0  # Monday 2026-11-23 12:00 UTC
HEALTHY = Calls(counted=200, failed=0, dropped=0)
EXPERIMENT = Experiment(
    id=1,
    model="spam",
    candidates=("A", "B"),
    percent=25,
    bucket_seconds=3_600,
    started_at=NOON,
    ends_at=NOON + 1e6,
    started_by="ada",
    schedule=Schedule(ramp=(1, 5, 25), dwell=1_800),
    progress=Progress(since=NOON, percent=1, epoch_id=3),
)


def waits_for(experiment: Experiment = EXPERIMENT, **seen: Any) -> tuple[str, ...]:
    facts: dict[str, Any] = {
        "now": NOON + 1_800,
        "epoch_id": 3,
        "calls": {"A": HEALTHY, "B": HEALTHY},
        "climbing": ("A", "B"),
        "lag": 0.3,
        "limits": GateLimits(),
    }
    return ramp.hindrances(experiment, Sight(**facts | seen))


def test_a_step_is_due_when_it_has_lasted_and_all_is_well() -> None:
    assert waits_for() == ()
    assert waits_for(now=NOON + 1_799.5) == ("1 s more at 1 %",)
    assert waits_for(now=NOON) == ("30 min more at 1 %",)
    assert waits_for(now=NOON + 3.2) == ("30 min more at 1 %",)
    assert waits_for(now=NOON + 1_690) == ("110 s more at 1 %",)


def test_only_time_inside_windows_counts_as_dwell() -> None:
    schedule = replace(EXPERIMENT.schedule, windows=(windows.parse("13:00-14:00"),))
    windowed = replace(EXPERIMENT, schedule=schedule)
    assert waits_for(windowed, now=NOON + 1_800) == ("a window to open",)
    assert waits_for(windowed, now=NOON + 3_600 + 600) == ("20 min more at 1 %",)
    assert waits_for(windowed, now=NOON + 3_600 + 1_800) == ()


def test_a_candidate_that_answered_nothing_yet_is_waited_for() -> None:
    assert waits_for(calls={"A": HEALTHY}) == ("B: a first answer at this step",)
    only_dropped = Calls(counted=0, failed=0, dropped=1)
    assert waits_for(calls={"A": HEALTHY, "B": only_dropped}) == ("B: a first answer at this step",)


def test_failures_hold_the_ramp_only_when_they_are_proven_to_be_many() -> None:
    unlucky, failing = Calls(counted=30, failed=2), Calls(counted=200, failed=40)
    assert waits_for(calls={"A": HEALTHY, "B": unlucky}) == ()
    assert waits_for(calls={"A": failing, "B": HEALTHY}) == ("A: fewer failures: 40 of 200 calls, proven above 1 %",)
    assert waits_for(calls={"A": failing, "B": HEALTHY}, limits=GateLimits(failures=0.3)) == ()


def test_drops_hold_the_ramp_only_when_they_are_proven_to_be_many() -> None:
    few, many = Calls(counted=200, dropped=1), Calls(counted=100, dropped=100)
    assert waits_for(calls={"A": few, "B": HEALTHY}) == ()
    assert waits_for(calls={"A": many, "B": HEALTHY}) == ("A: fewer drops: 100 of 200 copies, proven above 1 %",)


def test_what_happened_at_earlier_steps_does_not_count() -> None:
    recovered = replace(
        EXPERIMENT, progress=Progress(since=NOON, percent=1, epoch_id=3, calls={"A": Calls(counted=200, failed=40)})
    )
    calls = {"A": Calls(counted=400, failed=40), "B": HEALTHY}
    assert waits_for(recovered, calls=calls) == ()
    assert waits_for(EXPERIMENT, calls=calls) != ()
    # Counts of another epoch are not to be taken off: it began with nothing.
    assert waits_for(recovered, calls={"A": Calls(counted=100, failed=30), "B": HEALTHY}, epoch_id=4) == (
        "A: fewer failures: 30 of 100 calls, proven above 1 %",
    )


@pytest.mark.parametrize(
    ("lag", "said"),
    [
        (None, ("a worker: none reports itself",)),
        (61.0, ("workers to catch up: they are 61 s behind",)),
        (600.0, ("workers to catch up: they are 10 min behind",)),
        (60.0, ()),
    ],
)
def test_workers_have_to_keep_up(lag: float | None, said: tuple[str, ...]) -> None:
    assert waits_for(lag=lag) == said


def test_a_candidate_in_somebodys_hands_is_not_waited_for() -> None:
    assert waits_for(calls={"A": HEALTHY}, climbing=("A",)) == ()
    assert waits_for(climbing=()) == ("a candidate: the flags of all were set by hand, or it was promoted",)


def test_everything_that_holds_the_ramp_is_said_at_once() -> None:
    failing = Calls(counted=200, failed=40)
    assert len(waits_for(lag=None, calls={"A": failing, "B": failing})) == 3


def test_a_ramp_climbs_until_its_last_step_and_while_the_experiment_runs() -> None:
    assert ramp.is_climbing(EXPERIMENT)
    assert not ramp.is_climbing(replace(EXPERIMENT, progress=Progress(step=2, percent=25)))
    assert not ramp.is_climbing(replace(EXPERIMENT, stopped_at=NOON))
    assert not ramp.is_climbing(replace(EXPERIMENT, schedule=Schedule()))
    assert not ramp.is_climbing(replace(EXPERIMENT, progress=None))


def test_calls_are_read_from_an_epochs_counts() -> None:
    outcomes = {"ok": 5, "diverged": 3, "error": 2, "timeout": 1, "dropped": 4, "uncomparable": 9, "duplicate": 7}
    counts = Rollup({Cell(Family.OUTCOME, "A", outcome): n for outcome, n in outcomes.items()})
    assert ramp.calls_of(counts.tables(), ["A", "B"]) == {"A": Calls(counted=11, failed=3, dropped=4), "B": Calls()}
