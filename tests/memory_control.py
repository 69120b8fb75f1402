"""A ControlStore in memory, that keeps the flags of every revision: for properties of thousands of histories."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.model import Comparator, Model
from multishadow_server.core.rollout import Rollout
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.schedule import NO_SCHEDULE, Progress, Schedule
from multishadow_server.core.webhooks import Event
from multishadow_server.service.ports import FlagRecord, ProcessStatus, Promotion


class MemoryControl:
    """As much of a ControlStore as experiments, their schedules and single flags need.

    Args:
        model: the only one.
        flags: what its flags say at first.
    """

    def __init__(self, model: Model, flags: Mapping[str, Mapping[str, Any]]) -> None:
        self.configuration = Configuration(revision=1, models={model.name: model}, flags=dict(flags))
        self.history = [self.configuration.flags]
        self.known: list[Experiment] = []
        self.now = 1_795_435_200.0

    @asynccontextmanager
    async def change(self, actor: str) -> AsyncIterator[MemoryChange]:
        change = MemoryChange(self, actor)
        yield change
        if change.wrote:
            flags = {**self.configuration.flags, **change.flags}
            self.configuration = replace(
                self.configuration, revision=change.revision, flags=flags, epochs=tuple(change.epochs)
            )
            self.history.append(flags)
        self.known = change.experiments

    async def read(self) -> Configuration:
        return self.configuration

    async def flags(self) -> Sequence[FlagRecord]:
        return [
            FlagRecord(key=key, definition=definition, revision=1, changed_at=0, changed_by="", reason="")
            for key, definition in self.configuration.flags.items()
        ]

    async def experiments(self, model: str | None = None, *, running: bool = False) -> Sequence[Experiment]:
        del model
        return [each for each in self.known[::-1] if each.running or not running]

    async def epochs(self, experiment_id: int) -> Sequence[Epoch]:
        return [epoch for epoch in self.configuration.epochs if epoch.experiment_id == experiment_id]

    async def rollup(self, epoch_id: int, families: Sequence[str] = ()) -> Rollup:
        """Everybody answers well, and more from time to time."""
        (epoch,) = (epoch for epoch in self.configuration.epochs if epoch.id == epoch_id)
        return Rollup({Cell(Family.OUTCOME, version, "ok"): int(self.now) for version in epoch.candidates})

    async def processes(self) -> Sequence[ProcessStatus]:
        """A worker that keeps up."""
        worker = ProcessStatus(
            role="worker", instance="w", host="h", pid=1, started_at=0, revision=1, counters={}, seen_at=self.now
        )
        return [worker]


class NoRollouts:
    """As much of RolloutRecords as histories without staged rollouts need."""

    async def running(self, model: str) -> Rollout | None:
        del model
        return None


class MemoryChange:
    """A Change of a MemoryControl; nobody is told of it."""

    rollouts = NoRollouts()

    def __init__(self, store: MemoryControl, actor: str) -> None:
        self._actor = actor
        self.configuration = store.configuration
        self.revision = store.configuration.revision + 1
        self.now = store.now
        self.flags: dict[str, Mapping[str, Any]] = {}
        self.epochs = list(store.configuration.epochs)
        self.experiments = list(store.known)
        self.wrote = False

    async def tell(self, event: Event) -> None:
        del event

    async def put_flag(self, key: str, definition: Mapping[str, Any], *, reason: str) -> None:
        del reason
        if self.configuration.flags.get(key) != definition:
            self.flags[key] = definition
            self.wrote = True

    async def running_experiment(self, model: str) -> Experiment | None:
        del model
        return next((each for each in self.experiments if each.running), None)

    async def start_experiment(
        self,
        *,
        model: str,
        candidates: Sequence[str],
        percent: float,
        bucket_seconds: int,
        duration: float,
        noise_percent: float = 0.0,
        rank_by: RankBy = RankBy.AGREEMENT,
        schedule: Schedule = NO_SCHEDULE,
        progress: Progress | None = None,
    ) -> Experiment:
        experiment = Experiment(
            id=len(self.experiments) + 1,
            model=model,
            candidates=tuple(candidates),
            percent=percent,
            bucket_seconds=bucket_seconds,
            started_at=self.now,
            ends_at=self.now + duration,
            started_by=self._actor,
            noise_percent=noise_percent,
            rank_by=rank_by,
            schedule=schedule,
            progress=progress,
        )
        self.experiments.append(experiment)
        self.wrote = True
        return experiment

    async def stop_experiment(self, experiment: Experiment, *, reason: str) -> Experiment:
        return self._replace(experiment, stopped_at=self.now, stop_reason=reason)

    async def put_progress(self, experiment: Experiment, progress: Progress) -> None:
        self._replace(experiment, progress=progress)

    async def open_epoch(
        self, experiment: Experiment, *, live: str, candidates: Sequence[str], comparator: Comparator, reason: str
    ) -> Epoch:
        epoch = Epoch(
            id=len(self.epochs) + 1,
            experiment_id=experiment.id,
            model=experiment.model,
            number=sum(each.experiment_id == experiment.id for each in self.epochs) + 1,
            live=live,
            candidates=tuple(candidates),
            comparator=comparator,
            from_revision=self.revision,
            until_revision=None,
            opened_at=self.now,
            reason=reason,
            bucket_seconds=experiment.bucket_seconds,
        )
        self.epochs.append(epoch)
        self.wrote = True
        return epoch

    async def close_epoch(self, epoch: Epoch) -> None:
        self.epochs[self.epochs.index(epoch)] = replace(epoch, until_revision=self.revision)
        self.wrote = True

    async def last_promotion(self, model: str) -> Promotion | None:
        """None that `set_flag` has to mark: promotions are made, and taken back, by the pure rules here."""
        del model
        return None

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        assert action
        assert subject
        assert detail

    def _replace(self, experiment: Experiment, **changes: Any) -> Experiment:
        changed = replace(experiment, **changes)
        self.experiments[self.experiments.index(experiment)] = changed
        return changed
