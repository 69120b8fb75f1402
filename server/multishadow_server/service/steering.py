"""Keeping running experiments to their schedules: the next step of a ramp, and windows that open and close.

Every control process looks; whoever finds that something is due takes the lock on the revision, looks whether it
still is, and writes the flags and the experiment's progress in one transaction. So each step is one revision, made
once, and a process that dies in between has made none of it.

Flags that somebody set by hand are left alone by a step. A window that closes takes all of the experiment's shadows
off, because people sleep and windows are promises; whoever was `off` then stays so when the next one opens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from multishadow_server.core import experiment as rules
from multishadow_server.core import flags as flag_rules
from multishadow_server.core import ramp, serving
from multishadow_server.core import windows as hours
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.model import Model, Version
from multishadow_server.core.ramp import Sight
from multishadow_server.core.routing import Claim
from multishadow_server.core.schedule import Calls, Progress
from multishadow_server.core.serving import Flags
from multishadow_server.errors import InvalidInput
from multishadow_server.service.ports import Change, ControlStore, ProcessStatus
from multishadow_server.service.status import QUIET_SECONDS

_log = logging.getLogger(__name__)

CONTROL = "control"
"""The actor of what control does of its own accord."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """How an experiment stands with its schedule.

    Args:
        is_open: whether candidates may be called now.
        changes_at: when that changes next, seconds since the Unix epoch; None without windows.
        waits_for: what the next step of the ramp waits for; empty when there is none to come.
    """

    is_open: bool = True
    changes_at: float | None = None
    waits_for: tuple[str, ...] = ()


ALWAYS = Outlook()
"""That of an experiment without a schedule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """What was done to an experiment, in words, and in which revision."""

    experiment: Experiment
    words: str
    revision: int


async def outlook(store: ControlStore, experiment: Experiment, *, now: float) -> Outlook:
    """How an experiment stands with its schedule at a time, in seconds since the Unix epoch.

    Raises:
        StoreUnavailable: the database is away.
    """
    if not experiment.running:
        return Outlook(is_open=False)
    windows = experiment.schedule.windows
    return Outlook(
        is_open=hours.open_at(windows, now),
        changes_at=hours.next_change(windows, now),
        waits_for=await _waits_for(store, experiment, now=now) if ramp.is_climbing(experiment) else (),
    )


async def _waits_for(store: ControlStore, experiment: Experiment, *, now: float) -> tuple[str, ...]:
    return ramp.hindrances(experiment, await _sight(store, experiment, now=now))


async def _sight(store: ControlStore, experiment: Experiment, *, now: float) -> Sight:
    configuration = await store.read()
    model = configuration.models[experiment.model]
    epoch_id, calls = await _calls(store, experiment, configuration)
    return Sight(
        now=now,
        epoch_id=epoch_id,
        calls=calls,
        climbing=_as_written(experiment, model, configuration.flags),
        lag=_lag(await store.processes(), now=now),
        limits=model.gates,
    )


async def _calls(
    store: ControlStore, experiment: Experiment, configuration: Configuration
) -> tuple[int, Mapping[str, Calls]]:
    """The present epoch, and what became of copies in it."""
    live = serving.live_version(configuration.models[experiment.model], configuration.flags)
    epoch = rules.present_epoch(await store.epochs(experiment.id), live.name if live else "")
    if epoch is None:
        return 0, {}
    return epoch.id, ramp.calls_of((await store.rollup(epoch.id)).tables(), experiment.candidates)


def _as_written(experiment: Experiment, model: Model, flags: Flags) -> set[str]:
    """The candidates whose flags say what the experiment last wrote there."""
    return {
        version.name
        for version in model.versions
        if version.name in experiment.candidates
        and serving.flag_of(version, flags) == _definition(experiment.present_percent, version, flags)
    }


def _definition(percent: float, version: Version, flags: Flags) -> Mapping[str, Any]:
    """The version's flag when it shadows that share; what it tells people is left as it is."""
    claim = flag_rules.claim_definition(version.model, Claim.OFF)
    if percent:
        claim = flag_rules.claim_definition(version.model, Claim.SHADOW, percent)
    return flag_rules.with_metadata_of(serving.flag_of(version, flags), claim)


def _lag(processes: Sequence[ProcessStatus], *, now: float) -> float | None:
    """Seconds that the slowest worker is behind; None when none is alive."""
    lags = [
        process.counters.get("lag_ms", 0) / 1000
        for process in processes
        if process.role == "worker" and now - process.seen_at <= QUIET_SECONDS
    ]
    return max(lags, default=None)


async def steer(store: ControlStore, *, clock: Callable[[], float]) -> list[Move]:
    """Do what is due of all running experiments, and return what this call did.

    Args:
        store: several processes may do this at once.
        clock: the time, in seconds since the Unix epoch, that says when to look; the database's time has the last word
            on what is open.

    Raises:
        StoreUnavailable: the database is away.
    """
    moves = []
    for experiment in await store.experiments(running=True):
        if experiment.progress is None:
            continue
        try:
            progress = await _due(store, experiment, experiment.progress, now=clock())
        except InvalidInput as error:
            # Another machine's tz database knew the zone. The other experiments are not to blame.
            _log.error("experiment %d of %s cannot be steered here: %s", experiment.id, experiment.model, error)
            continue
        if progress is not None:
            move = await _move(store, experiment, progress)
            moves += [] if move is None else [move]
    return moves


async def _due(store: ControlStore, experiment: Experiment, progress: Progress, *, now: float) -> Progress | None:
    """How far it should have come by now; None when that is where it is."""
    shares = experiment.schedule.shares(experiment.percent)
    if not hours.open_at(experiment.schedule.windows, now):
        return replace(progress, percent=0.0) if progress.percent else None
    if not progress.percent:
        return replace(progress, percent=shares[progress.step])
    if not ramp.is_climbing(experiment) or ramp.dwell_left(experiment, now=now):
        return None
    sight = await _sight(store, experiment, now=now)
    if ramp.hindrances(experiment, sight):
        return None
    step = progress.step + 1
    return replace(
        progress, step=step, since=now, percent=shares[step], epoch_id=sight.epoch_id, calls=dict(sight.calls)
    )


async def _move(store: ControlStore, experiment: Experiment, progress: Progress) -> Move | None:
    """Take it there, unless somebody else did something to it first."""
    async with store.change(CONTROL) as change:
        running = await change.running_experiment(experiment.model)
        if running is None or running != experiment or running.ends_at <= change.now:
            return None
        if hours.open_at(running.schedule.windows, change.now) != bool(progress.percent):
            return None
        if running.progress is None or progress.step != running.progress.step:
            progress = replace(progress, since=change.now)
        model = change.configuration.models[running.model]
        closing, opening = not progress.percent, not running.present_percent
        if closing:
            progress = await _close(change, running, model, progress)
        else:
            await _give(change, running, model, progress, opening=opening)
        await change.put_progress(running, progress)
        words = _words(running, progress)
        detail = {"experiment": running.id, "percent": progress.percent, "step": progress.step + 1, "what": words}
        await change.audit("steer_experiment", running.model, detail)
        return Move(experiment=replace(running, progress=progress), words=words, revision=change.revision)


async def _close(change: Change, experiment: Experiment, model: Model, progress: Progress) -> Progress:
    flags, words, set_aside = change.configuration.flags, _words(experiment, progress), []
    for version in model.versions:
        if version.name not in experiment.candidates or serving.may_serve(version, flags):
            continue
        off = _definition(0.0, version, flags)
        if serving.flag_of(version, flags) == off:
            set_aside.append(version.name)
        else:
            await change.put_flag(version.flag_key, off, reason=words)
    return replace(progress, set_aside=tuple(set_aside))


async def _give(change: Change, experiment: Experiment, model: Model, progress: Progress, *, opening: bool) -> None:
    flags = change.configuration.flags
    written = _as_written(experiment, model, flags)
    kept = set(progress.set_aside) if opening else set[str]()
    words = _words(experiment, progress)
    for version in model.versions:
        if version.name in written - kept:
            await change.put_flag(version.flag_key, _definition(progress.percent, version, flags), reason=words)


def _words(experiment: Experiment, progress: Progress) -> str:
    of = f"experiment {experiment.id}"
    if not progress.percent:
        return f"{of}: its window closed"
    if not experiment.present_percent:
        return f"{of}: its window opened"
    steps = len(experiment.schedule.shares(experiment.percent))
    return f"{of}: step {progress.step + 1} of {steps}, {progress.percent:g} %"
