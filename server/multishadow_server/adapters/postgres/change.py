"""One change of the configuration: a transaction that holds the lock on the revision."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Update, delete, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters import flagd_core
from multishadow_server.adapters.postgres import webhook_outbox
from multishadow_server.adapters.postgres.configuration import CHANNEL, read_configuration, read_epochs, read_flags_at
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import (
    comparator_record,
    epoch_of,
    experiment_of,
    flag_revision_of,
    model_record,
    moment,
    progress_record,
    promotion_of,
    schedule_record,
    version_record,
)
from multishadow_server.adapters.postgres.rollouts import PostgresRolloutRecords
from multishadow_server.adapters.postgres.tables import (
    AuditRow,
    ConfigurationRevisionRow,
    EpochRow,
    ExperimentRow,
    FlagRevisionRow,
    FlagRow,
    GateRecordRow,
    ModelRow,
    PromotionRow,
    Table,
    VersionRow,
)
from multishadow_server.core import flag_definition
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch, Experiment, RankBy
from multishadow_server.core.model import Comparator, Model
from multishadow_server.core.schedule import NO_SCHEDULE, Progress, Schedule
from multishadow_server.core.webhooks import Event
from multishadow_server.errors import Conflict, MultishadowError, NotFound
from multishadow_server.service.ports import FlagRevision, Promotion

logger = logging.getLogger(__name__)

# Experiments are waited for no longer than this by what has to go on without them.
_SHORT_LOCKS = text("SET LOCAL lock_timeout = '250ms'")
_USUAL_LOCKS = text("SET LOCAL lock_timeout TO DEFAULT")


class PostgresChange:
    """A Change; `PostgresControl.change` begins and commits it."""

    def __init__(
        self, session: AsyncSession, *, actor: str, configuration: Configuration, now: datetime, experiments: bool
    ) -> None:
        self._session = session
        self._experiments_read = experiments
        self._actor = actor
        self._configuration = configuration
        self._now = now
        self._wrote = False
        self._discarded = False
        # What is in the tables by now, so that putting what is there already writes nothing.
        self._models = dict(configuration.models)
        self._flags = dict(configuration.flags)

    @classmethod
    async def begin(cls, session: AsyncSession, actor: str, *, experiments: bool = True) -> PostgresChange:
        """Take the lock on the revision, then read what it protects; epochs only with `experiments`."""
        await session.exec(select(ConfigurationRevisionRow.id).with_for_update())
        configuration = await read_configuration(session, experiments=experiments)
        # Not `now()`, which is when the wait for the lock began: times would not follow the order of revisions.
        now = (await session.exec(select(func.clock_timestamp()))).one()
        return cls(session, actor=actor, configuration=configuration, now=now, experiments=experiments)

    async def commit(self) -> None:
        """Make and announce the revision, when something was written. Raises StoreUnavailable: outcome unknown."""
        if self._discarded:
            async with self._reaching():
                await self._session.rollback()
            return
        if self._wrote:
            async with self._reaching():
                await self._session.exec(update(ConfigurationRevisionRow).values(revision=self.revision))
                # Delivered by PostgreSQL when, and only when, this transaction commits.
                await self._session.exec(select(func.pg_notify(CHANNEL, str(self.revision))))
        async with self._reaching():
            await self._session.commit()

    @property
    def configuration(self) -> Configuration:
        """As it was when the lock was taken."""
        return self._configuration

    @property
    def revision(self) -> int:
        """The revision that this change makes."""
        return self._configuration.revision + 1

    @property
    def now(self) -> float:
        """The database's time when the lock was taken, seconds since the Unix epoch."""
        return self._now.timestamp()

    @property
    def rollouts(self) -> PostgresRolloutRecords:
        """The rollouts, to be changed in this change."""
        return PostgresRolloutRecords(self._session, actor=self._actor, revision=self.revision, now=self._now)

    async def if_possible(self, purpose: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do what needs experiments, or go on without it when their tables are broken or locked."""
        try:
            async with self._reaching(), self._session.begin_nested():
                connection = await self._session.connection()
                await connection.execute(_SHORT_LOCKS)
                if not self._experiments_read:
                    self._configuration = replace(self._configuration, epochs=await read_epochs(self._session))
                await work()
                await connection.execute(_USUAL_LOCKS)
        except MultishadowError as error:
            logger.warning("%s was left out: %s", purpose, error)
            return False
        return True

    async def put_model(self, model: Model) -> None:
        """Create or update the model's own settings (not its versions)."""
        present = self._models.get(model.name)
        put = replace(
            model,
            versions=present.versions if present else (),
            created_at=present.created_at if present else self.now,
        )
        if put != present:
            await self._upsert(ModelRow, model_record(put), key=("name",), once={"created_at": self._now})
        self._models[model.name] = put

    async def put_versions(self, model: Model) -> None:
        """Create or update its versions.

        Those that exist keep their place in the order of registration; new ones follow, in the order given. The
        ordinals in `model` do not matter.

        Raises:
            NotFound: the model was not put before.
        """
        if model.name not in self._models:
            raise NotFound(f"there is no model {model.name!r}; put it before its versions")
        known = {version.name: version for version in self._models[model.name].versions}
        for given in model.versions:
            present = known.get(given.name)
            put = replace(
                given,
                model=model.name,
                ordinal=present.ordinal if present else len(known),
                created_at=present.created_at if present else self.now,
            )
            if put != present:
                record = version_record(put)
                await self._upsert(VersionRow, record, key=("model", "name"), once={"created_at": self._now})
            known[put.name] = put
        self._models[model.name] = replace(self._models[model.name], versions=tuple(known.values()))

    async def put_flag(self, key: str, definition: Mapping[str, Any], *, reason: str) -> None:
        """Set a flag; the former definition stays in the history. The one it has already writes nothing.

        Every flag that is ever published passes here, so this is where the last look at it is taken.

        Raises:
            InvalidInput: some reader of flags would not take the definition, or the whole set with it.
            FailedPrecondition: the key is one of a version that there is not.
        """
        if flag_definition.same(self._flags.get(key), definition):
            return
        definition = self._published(key, definition)
        await self._record_flag(key, definition, reason=reason)
        await self._upsert(FlagRow, {"key": key, "revision": self.revision}, key=("key",))
        self._flags[key] = definition

    def _published(self, key: str, definition: Mapping[str, Any]) -> Mapping[str, Any]:
        owner = flag_definition.version_of(key, self._models)
        if owner is None and key not in self._flags:
            flag_definition.check_free(key, self._models)
        checked = flag_definition.validate(key, definition, claim=owner is not None)
        flagd_core.load(key, checked)
        former = self._flags.get(key)
        if former is None or flag_definition.size_of(checked) > flag_definition.size_of(former):
            flag_definition.check_set({**self._flags, key: checked})
        return checked

    async def delete_flag(self, key: str, *, reason: str) -> None:
        """Remove a flag; its history stays, with who removed it. One that is not there writes nothing.

        Raises:
            FailedPrecondition: it is the flag of a version.
        """
        flag_definition.check_deletable(key, self._models)
        if key not in self._flags:
            return
        # First the pointer: it refers to the row of this revision when the flag was put in this very change.
        async with self._reaching():
            await self._session.exec(delete(FlagRow).where(col(FlagRow.key) == key))
        await self._record_flag(key, None, reason=reason)
        del self._flags[key]

    async def _record_flag(self, key: str, definition: Mapping[str, Any] | None, *, reason: str) -> None:
        record = {
            "key": key,
            "revision": self.revision,
            "definition": None if definition is None else dict(definition),
            "changed_at": self._now,
            "changed_by": self._actor,
            "reason": reason,
        }
        # Put twice in one change, the last definition is the revision's.
        await self._upsert(FlagRevisionRow, record, key=("key", "revision"))

    async def flag_revisions(self, keys: Sequence[str], *, after: int) -> Sequence[FlagRevision]:
        """What became of these flags since the revision `after`, oldest first."""
        wanted = (
            select(FlagRevisionRow)
            .where(col(FlagRevisionRow.key).in_(keys), FlagRevisionRow.revision > after)
            .order_by(col(FlagRevisionRow.revision), col(FlagRevisionRow.key))
        )
        async with self._reaching():
            return [flag_revision_of(row) for row in await self._session.exec(wanted)]

    async def flags_at(self, revision: int) -> Mapping[str, Mapping[str, Any]]:
        """Every flag's definition by key, as it was at that revision."""
        async with self._reaching():
            return await read_flags_at(self._session, revision)

    def discard(self) -> None:
        """Commit nothing of this change when it ends."""
        self._discarded = True

    async def running_experiment(self, model: str) -> Experiment | None:
        """The model's running experiment."""
        wanted = select(ExperimentRow).where(ExperimentRow.model == model, col(ExperimentRow.stopped_at).is_(None))
        async with self._reaching():
            row = (await self._session.exec(wanted)).one_or_none()
        return experiment_of(row) if row else None

    async def experiment_at(self, promotion: Promotion) -> Experiment | None:
        """The experiment of its model that ran when it was made, as it stands now."""
        made_at = select(PromotionRow.promoted_at).where(PromotionRow.id == promotion.id).scalar_subquery()
        ended_at = func.coalesce(ExperimentRow.stopped_at, text("'infinity'"))
        wanted = (
            select(ExperimentRow)
            .where(ExperimentRow.model == promotion.model, col(ExperimentRow.started_at) <= made_at, ended_at > made_at)
            .order_by(col(ExperimentRow.id).desc())
            .limit(1)
        )
        async with self._reaching():
            row = (await self._session.exec(wanted)).one_or_none()
        return experiment_of(row) if row else None

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
        """Record a new experiment that starts now. Raises Conflict: one runs already."""
        row = ExperimentRow(
            model=model,
            candidates=list(candidates),
            percent=percent,
            noise_percent=noise_percent,
            rank_by=rank_by,
            bucket_seconds=bucket_seconds,
            started_at=self._now,
            ends_at=moment(self.now + duration),
            started_by=self._actor,
            schedule=schedule_record(schedule),
            progress=progress_record(progress) if progress else None,
        )
        await self._add(row)
        return experiment_of(row)

    async def put_progress(self, experiment: Experiment, progress: Progress) -> None:
        """Record how far a running experiment has come. It makes no revision: what flags say of it does."""
        async with self._reaching():
            await self._session.exec(
                update(ExperimentRow)
                .where(col(ExperimentRow.id) == experiment.id)
                .values(progress=progress_record(progress))
            )

    async def stop_experiment(self, experiment: Experiment, *, reason: str) -> Experiment:
        """Record that it ended now. Raises Conflict: it did not run any more."""
        await self._update_one(
            update(ExperimentRow)
            .where(col(ExperimentRow.id) == experiment.id, col(ExperimentRow.stopped_at).is_(None))
            .values(stopped_at=self._now, stop_reason=reason),
            f"experiment {experiment.id} was stopped already",
        )
        return replace(experiment, stopped_at=self.now, stop_reason=reason)

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
        last = select(func.coalesce(func.max(EpochRow.number), 0)).where(EpochRow.experiment_id == experiment.id)
        async with self._reaching():
            number = (await self._session.exec(last)).one() + 1
        row = EpochRow(
            experiment_id=experiment.id,
            noise_percent=experiment.noise_percent,
            number=number,
            live=live,
            candidates=list(candidates),
            comparator=comparator_record(comparator),
            from_revision=self.revision,
            opened_at=self._now,
            reason=reason,
        )
        await self._add(row)
        return epoch_of(
            row,
            model=experiment.model,
            bucket_seconds=experiment.bucket_seconds,
            schedule=schedule_record(experiment.schedule),
            ends_at=experiment.ends_at,
        )

    async def close_epoch(self, epoch: Epoch) -> None:
        """Close it: it covers no revision from this change's on. Raises Conflict: it was closed already."""
        await self._update_one(
            update(EpochRow)
            .where(col(EpochRow.id) == epoch.id, col(EpochRow.until_revision).is_(None))
            .values(until_revision=self.revision, closed_at=self._now),
            f"epoch {epoch.number} of experiment {epoch.experiment_id} was closed already",
        )

    async def record_promotion(
        self, *, model: str, version: str, previous: str, flags_before: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Remember a promotion, so that it can be rolled back."""
        row = PromotionRow(
            model=model,
            version=version,
            previous=previous,
            flags_before={key: dict(definition) for key, definition in flags_before.items()},
            revision=self.revision,
            promoted_at=self._now,
            promoted_by=self._actor,
        )
        await self._add(row)

    async def last_promotion(self, model: str) -> Promotion | None:
        """The newest promotion of the model that was not rolled back."""
        wanted = (
            select(PromotionRow)
            .where(PromotionRow.model == model, col(PromotionRow.rolled_back_revision).is_(None))
            .order_by(col(PromotionRow.id).desc())
            .limit(1)
        )
        async with self._reaching():
            row = (await self._session.exec(wanted)).one_or_none()
        return promotion_of(row) if row else None

    async def mark_rolled_back(self, promotion: Promotion) -> None:
        """It has been taken back. Raises Conflict: it had been before."""
        await self._update_one(
            update(PromotionRow)
            .where(col(PromotionRow.id) == promotion.id, col(PromotionRow.rolled_back_revision).is_(None))
            .values(rolled_back_revision=self.revision),
            f"the promotion of {promotion.version} was rolled back already",
        )

    async def put_on_record(self, epoch: Epoch, *, version: str, subject: str, waiver: bool, text: str) -> None:
        """Keep an attestation or a waiver for ever, in the change's actor's name. It makes no revision."""
        row = {"epoch_id": epoch.id, "version": version, "subject": subject, "waiver": waiver, "text": text}
        async with self._reaching():
            await self._session.exec(insert(GateRecordRow).values(row | {"by": self._actor, "at": self._now}))

    async def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Add a line to the audit log, with the change's actor. A line alone makes no revision."""
        line = {"at": self._now, "actor": self._actor, "action": action, "subject": subject, "detail": dict(detail)}
        async with self._reaching():
            await self._session.exec(insert(AuditRow).values(line))

    async def tell(self, event: Event) -> None:
        """Tell webhooks when this change commits; a change is not lost for want of a messenger."""
        async with self._reaching():
            connection = await self._session.connection()
        await webhook_outbox.tell(connection, event)

    async def _add(self, row: Table) -> None:
        self._session.add(row)
        async with self._reaching():
            await self._session.flush()
        self._wrote = True

    async def _upsert(
        self,
        table: type[Table],
        record: Mapping[str, Any],
        *,
        key: Sequence[str],
        once: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Insert the record, or update what is no part of its key; `once` holds what an update leaves as it is."""
        rest = {name: value for name, value in record.items() if name not in key}
        statement = insert(table).values(**record, **once).on_conflict_do_update(index_elements=key, set_=rest)
        async with self._reaching():
            await self._session.exec(statement)
        self._wrote = True

    async def _update_one(self, statement: Update, otherwise: str) -> None:
        async with self._reaching():
            updated = await self._session.exec(statement)
        if updated.rowcount != 1:
            raise Conflict(f"{otherwise}; read again")
        self._wrote = True

    def _reaching(self) -> AbstractAsyncContextManager[None]:
        bind = self._session.bind
        assert isinstance(bind, AsyncEngine)
        return reaching(bind, "changing the configuration")
