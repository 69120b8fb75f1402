"""An experiment's schedule: the shares that its candidates climb, the hours in which they shadow, and its progress.

A ramp gives the candidates a small share of the requests first (1 %, then 5 %, then 25 %), so that a candidate that
falls over under load does so on few requests. All candidates climb together: they share their bucketing expression,
so each step's sample lies inside the next one's. A share is how much is sampled, and not what is compared: a step
begins no new epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multishadow_server.core import windows as hours
from multishadow_server.core.windows import Window
from multishadow_server.errors import InvalidInput

DEFAULT_DWELL = 1_800.0
MOST_STEPS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What was declared when the experiment started.

    Args:
        ramp: shares of requests in percent, ascending, the last being the experiment's; empty: that one from the start.
        dwell: seconds inside windows that a step lasts at least.
        windows: when candidates are called; none: always.
    """

    ramp: tuple[float, ...] = ()
    dwell: float = DEFAULT_DWELL
    windows: tuple[Window, ...] = ()

    def shares(self, percent: float) -> tuple[float, ...]:
        """The steps, for an experiment with this share: one when there is no ramp."""
        return self.ramp or (percent,)


NO_SCHEDULE = Schedule()
"""All of the share from the start, at all hours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """What became of one candidate's copies so far in an epoch.

    Args:
        counted: those that ended in a comparison, failures included.
        failed: errors and timeouts among them.
        dropped: those that were never sent.
    """

    counted: int = 0
    failed: int = 0
    dropped: int = 0

    def since(self, before: Calls) -> Calls:
        """What came after `before`."""
        return Calls(
            counted=self.counted - before.counted,
            failed=self.failed - before.failed,
            dropped=self.dropped - before.dropped,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far an experiment has come.

    Args:
        step: place in `Schedule.shares`.
        since: when that step began, seconds since the Unix epoch.
        percent: share of requests that candidates get now; 0 while no window is open.
        set_aside: candidates that somebody had set to `off` when a window closed: they stay so when the next one opens.
        epoch_id: which epoch `calls` are of.
        calls: what had become of copies when the step began, by candidate.
    """

    step: int = 0
    since: float = 0.0
    percent: float
    set_aside: tuple[str, ...] = ()
    epoch_id: int = 0
    calls: Mapping[str, Calls] = field(default_factory=dict)


def ramp_up_to(steps: Sequence[float], percent: float | None) -> tuple[tuple[float, ...], float]:
    """The steps below a share and that share itself; with the share, which is the last step when none is said.

    Args:
        steps: in percent, as they were asked for.
        percent: the share to end at.

    Raises:
        InvalidInput: they do not ascend, are too many or out of range, or all lie above the share.
    """
    if len(steps) > MOST_STEPS:
        raise InvalidInput(f"ramp: at most {MOST_STEPS} steps are allowed, not {len(steps)}")
    if not all(0 < step <= 100 for step in steps):
        raise InvalidInput(
            f"ramp: steps are shares of requests in percent, above 0 and at most 100; got {_said(steps)}"
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise InvalidInput(f"ramp: each step must be larger than the one before it; got {_said(steps)}")
    if percent is None:
        return tuple(steps), steps[-1]
    below = tuple(step for step in steps if step < percent)
    if not below:
        raise InvalidInput(f"ramp: no step of {_said(steps)} is below {percent:g} %, where it ends; leave the ramp out")
    return (*below, percent), percent


def _said(steps: Sequence[float]) -> str:
    return ", ".join(f"{step:g}" for step in steps)


def check(schedule: Schedule, *, starts_at: float, duration: float) -> None:
    """Refuse a schedule that cannot be kept within the time box.

    Args:
        schedule: what is asked for.
        starts_at: seconds since the Unix epoch.
        duration: the time box, seconds.

    Raises:
        InvalidInput: a time zone is not known, no window opens in time, or the ramp takes longer.
    """
    hours.check(schedule.windows)
    if not 1 <= schedule.dwell <= 7 * hours.DAY:
        raise InvalidInput(f"ramp_dwell_seconds: {schedule.dwell:g} is out of range; allowed are 1 second to 7 days")
    inside = hours.open_seconds(schedule.windows, since=starts_at, until=starts_at + duration)
    if not inside:
        raise InvalidInput("windows: none of them opens before the experiment's time box ends; give it more time")
    climbing = schedule.dwell * max(0, len(schedule.ramp) - 1)
    if climbing >= inside:
        raise InvalidInput(
            f"ramp: {len(schedule.ramp)} steps that last {schedule.dwell:g} s each leave no time at the last one: the "
            f"experiment shadows for {inside:g} s in all. Shorten the dwell, leave steps out, or give it more time"
        )
