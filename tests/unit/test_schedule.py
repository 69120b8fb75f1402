"""Schedules: which ramps there are, and whether one fits into its time box."""

from __future__ import annotations

import pytest

from multishadow_client.cli.ramp import DEFAULT as DEFAULT_RAMP
from multishadow_server.core import schedule, windows
from multishadow_server.core.schedule import Schedule
from multishadow_server.errors import InvalidInput

MONDAY_NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC
HOUR = 3_600.0


@pytest.mark.parametrize(
    ("steps", "percent", "ramp"),
    [
        (DEFAULT_RAMP, None, (1, 5, 25)),
        (DEFAULT_RAMP, 25, (1, 5, 25)),
        (DEFAULT_RAMP, 10, (1, 5, 10)),
        (DEFAULT_RAMP, 100, (1, 5, 25, 100)),
        ([0.5], 1, (0.5, 1)),
        ([10], None, (10,)),
    ],
)
def test_a_ramp_ends_at_the_share_that_was_asked_for(
    steps: list[float], percent: float | None, ramp: tuple[float, ...]
) -> None:
    assert schedule.ramp_up_to(steps, percent) == (ramp, ramp[-1])


@pytest.mark.parametrize(
    ("steps", "percent", "said"),
    [
        ([5, 1], None, "each step must be larger than the one before it; got 5, 1"),
        ([1, 1], None, "each step must be larger"),
        ([0, 5], None, "above 0 and at most 100; got 0, 5"),
        ([5, 101], None, "at most 100"),
        ([float("nan")], None, "at most 100"),
        ([5, 25], 2, "no step of 5, 25 is below 2 %"),
        ([*range(1, 22)], None, "at most 20 steps are allowed, not 21"),
    ],
)
def test_what_is_no_ramp_is_refused(steps: list[float], percent: float | None, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        schedule.ramp_up_to(steps, percent)


def check(*, dwell: float = HOUR, window: str = "", duration: float = 14 * 24 * HOUR) -> None:
    chosen = (windows.parse(window),) if window else ()
    asked = Schedule(ramp=(1, 5, 25), dwell=dwell, windows=chosen)
    schedule.check(asked, starts_at=MONDAY_NOON, duration=duration)


def test_a_ramp_that_leaves_no_time_at_its_last_step_is_refused() -> None:
    check(duration=2.1 * HOUR)
    with pytest.raises(InvalidInput, match="3 steps that last 3600 s each leave no time at the last one"):
        check(duration=2 * HOUR)
    # The same time box, of which two hours lie inside the window.
    check(duration=24 * HOUR, window="22:00-01:00")
    with pytest.raises(InvalidInput, match="the experiment shadows for 7200 s in all"):
        check(duration=24 * HOUR, window="22:00-24:00")


def test_windows_that_do_not_open_in_time_are_refused() -> None:
    with pytest.raises(InvalidInput, match="none of them opens before the experiment's time box ends"):
        check(duration=4 * 24 * HOUR, window="sat")


@pytest.mark.parametrize("dwell", [0.5, 0, -1, 8 * 24 * HOUR, float("nan")])
def test_a_dwell_out_of_range_is_refused(dwell: float) -> None:
    with pytest.raises(InvalidInput, match="ramp_dwell_seconds"):
        check(dwell=dwell)
