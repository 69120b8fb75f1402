"""Between the control API's messages and an experiment's schedule."""

from __future__ import annotations

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core import schedule as rules
from multishadow_server.core import windows
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.schedule import DEFAULT_DWELL, Schedule
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.service.steering import Outlook

ALL_REQUESTS = 100.0


def schedule_of(request: pb.StartExperimentRequest) -> tuple[Schedule, float]:
    """The schedule that was asked for, and the share that it ends at, in percent.

    Raises:
        InvalidInput: the ramp or a window cannot be one.
    """
    percent = request.percent if request.HasField("percent") else None
    steps, share = tuple[float, ...](), ALL_REQUESTS if percent is None else percent
    if request.ramp_percent:
        steps, share = rules.ramp_up_to(request.ramp_percent, percent)
    schedule = Schedule(
        ramp=steps,
        dwell=float(request.ramp_dwell_seconds) if request.HasField("ramp_dwell_seconds") else DEFAULT_DWELL,
        windows=tuple(map(windows.parse, request.windows)),
    )
    return schedule, share


def schedule_message(experiment: Experiment, outlook: Outlook) -> pb.ExperimentSchedule:
    """An experiment's schedule, and how it stands with it."""
    schedule, progress = experiment.schedule, experiment.progress
    return pb.ExperimentSchedule(
        ramp_percent=schedule.ramp,
        dwell_seconds=round(schedule.dwell),
        step=1 if progress is None else progress.step + 1,
        step_began_at=messages.moment(experiment.started_at if progress is None else progress.since),
        present_percent=experiment.present_percent if experiment.running else 0.0,
        waits_for=outlook.waits_for,
        windows=map(str, schedule.windows),
        open=outlook.is_open,
        changes_at=messages.moment(outlook.changes_at),
        set_aside=() if progress is None else progress.set_aside,
    )
