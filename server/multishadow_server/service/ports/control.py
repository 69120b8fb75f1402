"""What control reads and changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.gates import Record
from multishadow_server.core.model import Comparator, Model
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.schedule import NO_SCHEDULE, Progress, Schedule
from multishadow_server.core.webhooks import Event
from multishadow_server.service.ports.processes import ProcessStatus
from multishadow_server.service.ports.rollouts import RolloutRecords


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagRecord:
    """A flag with its last change."""

    key: str
    definition: Mapping[str, Any]
    revision: int
    changed_at: float
    changed_by: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FlagRevision:
    """One line of a flag's history; the definition is None where the flag was deleted."""

    key: str
    revision: int
    definition: Mapping[str, Any] | None
    changed_at: float
    changed_by: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """One promotion, for rolling it back: who was live before, and the two flags as they were."""

    id: int
    model: str
    version: str
    previous: str
    flags_before: Mapping[str, Mapping[str, Any]]
    revision: int
    rolled_back: bool


class Change(Protocol):
    """One change of the configuration: a transaction that holds the lock on the revision.

    Everything written in it belongs to revision `configuration.revision + 1`, and is announced when it commits. A
    change that wrote nothing makes no revision.
    """

    @property
    def configuration(self) -> Configuration:
        """As it was when the lock was taken."""
        ...

    @property
    def revision(self) -> int:
        """The revision that this change makes."""
        ...

    @property
    def now(self) -> float:
        """The transaction's time, seconds since the Unix epoch."""
        ...

    @property
    def rollouts(self) -> RolloutRecords:
        """The rollouts, to be changed in this change."""
        ...

    async def if_possible(self, purpose: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do what needs experiments, or go on without it; False when it was left out.

        The epochs are read first, which a change with `experiments=False` left out. When the tables of experiments are
        broken, or locked for more than an instant, what the work did is undone, and the rest of the change stays.

        Args:
            purpose: in words, for the log.
            work: is done in this change.
        """
        ...

    async def put_model(self, model: Model) -> None:
        """Create or update the model's own settings (not its versions)."""
        ...

    async def put_versions(self, model: Model) -> None:
        """Create or update its versions."""
        ...

    async def put_flag(self, key: str, definition: Mapping[str, Any], *, reason: str) -> None:
        """Set a flag; the former definition stays in the history.

        Raises InvalidInput, with nothing written, unless every reader of flags takes the definition; a key's owner is
        judged by the versions that were put before.
        """
        ...

    async def delete_flag(self, key: str, *, reason: str) -> None:
        """Remove a flag; its history stays. Raises FailedPrecondition for a version's flag."""
        ...

    async def flag_revisions(self, keys: Sequence[str], *, after: int) -> Sequence[FlagRevision]:
        """What became of these flags since the revision `after`, oldest first."""
        ...

    async def flags_at(self, revision: int) -> Mapping[str, Mapping[str, Any]]:
        """Every flag's definition by key, as it was at that revision.

        Not the store's: a change that waited for a second connection, while others that wait for this change have
        them all, would wait in vain.
        """
        ...

    def discard(self) -> None:
        """Commit nothing of this change when it ends: it was a rehearsal."""
        ...

    async def running_experiment(self, model: str) -> Experiment | None:
        """The model's running experiment."""
        ...

    async def experiment_at(self, promotion: Promotion) -> Experiment | None:
        """The experiment of its model that ran when it was made, as it stands now."""
        ...

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
        """Record a new experiment that starts now."""
        ...

    async def put_progress(self, experiment: Experiment, progress: Progress) -> None:
        """Record how far a running experiment has come. It makes no revision: what flags say of it does."""
        ...

    async def stop_experiment(self, experiment: Experiment, *, reason: str) -> Experiment:
        """Record that it ended now."""
        ...

    async def open_epoch(
        self,
        experiment: Experiment,
        *,
        live: str,
        candidates: Sequence[str],
        comparator: Comparator,
        reason: str,
    ) -> Epoch:
        """Open its next epoch, from this change's revision on."""
        ...

    async def close_epoch(self, epoch: Epoch) -> None:
        """Close it: it covers no revision from this change's on."""
        ...

    async def record_promotion(
        self, *, model: str, version: str, previous: str, flags_before: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Remember a promotion, so that it can be rolled back."""
        ...

    async def last_promotion(self, model: str) -> Promotion | None:
        """The newest promotion of the model that was not rolled back."""
        ...

    async def mark_rolled_back(self, promotion: Promotion) -> None:
        """It has been taken back."""
        ...

    async def put_on_record(self, epoch: Epoch, *, version: str, subject: str, waiver: bool, text: str) -> None:
        """Keep an attestation or a waiver for ever, in the change's actor's name. It makes no revision."""
        ...

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Add a line to the audit log, with the change's actor."""
        ...

    async def tell(self, event: Event) -> None:
        """Tell webhooks when, and only when, this change commits. What keeps them from it does not keep the change."""
        ...


class ControlStore(Protocol):
    """What control reads and changes."""

    def change(self, actor: str, *, experiments: bool = True) -> AbstractAsyncContextManager[Change]:
        """Begin a change; leaving the block commits, an exception in it undoes everything. Raises StoreUnavailable.

        With `experiments=False` nothing of experiments is read, and its configuration has no epochs: see
        `Change.if_possible`.
        """
        ...

    async def read(self, *, experiments: bool = True) -> Configuration:
        """Everything at the present revision. Raises StoreUnavailable.

        With `experiments=False` it has no epochs, and can be read when experiments cannot.
        """
        ...

    async def flags(self) -> Sequence[FlagRecord]:
        """Every flag with its last change, by key."""
        ...

    async def flag_history(
        self, key: str, *, before: int | None = None, most: int | None = None
    ) -> Sequence[FlagRevision]:
        """What a flag said below a revision (None: ever), newest first; empty for a key that never was."""
        ...

    async def flags_at(self, revision: int) -> Mapping[str, Mapping[str, Any]]:
        """Every flag's definition by key, as it was at that revision."""
        ...

    async def flags_within(
        self, keys: Sequence[str], *, first_revision: int, last_revision: int | None
    ) -> Sequence[FlagRecord]:
        """Every definition that flags had between two revisions (None: to the present one), oldest first.

        The first of each key is the one that it had at `first_revision`, from whenever that is.
        """
        ...

    async def experiments(self, model: str | None = None, *, running: bool = False) -> Sequence[Experiment]:
        """Those of a model (None: of all), newest first; `running`: those that run."""
        ...

    async def experiment(self, experiment_id: int) -> Experiment | None:
        """One; None: there is none."""
        ...

    async def latest_experiment(self, model: str) -> Experiment | None:
        """A model's newest, which is the one that runs if any does; None: it had none."""
        ...

    async def epochs(self, experiment_id: int) -> Sequence[Epoch]:
        """An experiment's epochs, by number."""
        ...

    async def rollup(self, epoch_id: int, families: Sequence[str] = ()) -> Rollup:
        """An epoch's counts of these families (none: of all), summed over its buckets."""
        ...

    async def buckets(self, epoch_id: int, families: Sequence[str]) -> Mapping[int, Rollup]:
        """An epoch's counts of these families, by the bucket's start in seconds since the Unix epoch, oldest first."""
        ...

    async def reviewed_of_top(self, epoch_id: int, version: str) -> tuple[int, int]:
        """Of a candidate's least similar divergent answers (at most ten): how many have a verdict, and how many are."""
        ...

    async def gate_records(self, epoch_id: int) -> Sequence[Record]:
        """Attestations and waivers of an epoch, oldest first."""
        ...

    async def processes(self) -> Sequence[ProcessStatus]:
        """What processes last said of themselves, newest first."""
        ...
