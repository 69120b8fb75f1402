"""How the experiments that run stand, in the counts of outcomes alone: for a look at all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multishadow_server.core import experiment as rules
from multishadow_server.core import outcome_counts, serving
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.outcome_counts import OutcomeCounts
from multishadow_server.core.rollup import Family
from multishadow_server.service.ports import ControlStore


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningCounts:
    """An experiment that runs, with the counts of its candidates in the present epoch; none before there is one."""

    experiment: Experiment
    candidates: tuple[OutcomeCounts, ...] = ()


async def running_counts(store: ControlStore, configuration: Configuration) -> Sequence[RunningCounts]:
    """Those of every experiment that runs, newest first. Raises StoreUnavailable."""
    return [await _counts(store, configuration, experiment) for experiment in await store.experiments(running=True)]


async def _counts(store: ControlStore, configuration: Configuration, experiment: Experiment) -> RunningCounts:
    live = serving.live_version(configuration.models[experiment.model], configuration.flags)
    epoch = rules.present_epoch(await store.epochs(experiment.id), live.name if live else "")
    if epoch is None:
        return RunningCounts(experiment=experiment)
    counted = await store.rollup(epoch.id, [Family.OUTCOME])
    return RunningCounts(
        experiment=experiment, candidates=outcome_counts.of_candidates(counted.tables(), epoch.candidates)
    )
