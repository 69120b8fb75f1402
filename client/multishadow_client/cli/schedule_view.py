"""How an experiment stands with its ramp and its windows, in words."""

from __future__ import annotations

from collections.abc import Iterator

from multishadow.v1.control_pb2 import Experiment
from multishadow_client.cli import figures


def share(experiment: Experiment) -> str:
    """The share of requests that candidates get, and where it is going: 25 %, 5 → 25 %, 0 of 25 %."""
    if not experiment.HasField("schedule") or experiment.state == "stopped":
        return f"{experiment.percent:g} %"
    present = experiment.schedule.present_percent
    if not present:
        return f"0 of {experiment.percent:g} %"
    return f"{experiment.percent:g} %" if present == experiment.percent else f"{present:g} → {experiment.percent:g} %"


def coming(experiment: Experiment) -> str:
    """What comes next: the step that the ramp waits for, or a window that opens; empty when nothing does."""
    schedule = experiment.schedule
    if not experiment.HasField("schedule") or experiment.state == "stopped":
        return ""
    if not schedule.open:
        opens = figures.moment(schedule.changes_at) if schedule.HasField("changes_at") else "never again"
        return f"the next window opens: {opens}"
    if schedule.waits_for:
        following = schedule.ramp_percent[schedule.step]
        return f"{following:g} % waits for {'; '.join(schedule.waits_for)}"
    return ""


def lines(experiment: Experiment) -> Iterator[str]:
    """A line each for the ramp and for the windows, where there are any."""
    schedule = experiment.schedule
    if not experiment.HasField("schedule") or experiment.state == "stopped":
        return
    if schedule.ramp_percent:
        steps = " → ".join(f"{step:g}" for step in schedule.ramp_percent)
        waits = f"; the next waits for {'; '.join(schedule.waits_for)}" if schedule.waits_for else ""
        yield f"ramp {steps} %: step {schedule.step} of {len(schedule.ramp_percent)}{waits}"
    if schedule.windows:
        state, verb = ("open", "closes") if schedule.open else ("closed", "opens")
        until = f", {verb} {figures.moment(schedule.changes_at)}" if schedule.HasField("changes_at") else ""
        yield f"shadows only in {', '.join(schedule.windows)}: {state} now{until}"
    if schedule.set_aside:
        yield f"set aside by hand: {', '.join(schedule.set_aside)} stays off when the next window opens"
