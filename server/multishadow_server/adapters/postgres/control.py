"""What control reads and changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.change import PostgresChange
from multishadow_server.adapters.postgres.configuration import FLAGS, PostgresConfiguration, read_flags_at
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import (
    epoch_of,
    experiment_of,
    flag_of,
    flag_revision_of,
    gate_record_of,
    process_of,
)
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.postgres.tables import (
    EpochRow,
    ExperimentRow,
    FlagRevisionRow,
    GateRecordRow,
    ProcessRow,
    RollupRow,
)
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.gates import Record
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.service.ports import FlagRecord, FlagRevision, ProcessStatus

# Of a bigint column.
LARGEST_ID = 2**63 - 1


class PostgresControl:
    """A ControlStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._configuration = PostgresConfiguration(engine)
        self._without_experiments = PostgresConfiguration(engine, experiments=False)
        self._reviews = PostgresReviews(engine)

    @asynccontextmanager
    async def change(self, actor: str, *, experiments: bool = True) -> AsyncIterator[PostgresChange]:
        """Begin a change; leaving the block commits, an exception in it undoes everything.

        Changes happen one after the other: a second one waits here for the first. With `experiments=False` no table of
        experiments is touched before `PostgresChange.if_possible`.
        """
        async with AsyncSession(self._engine, expire_on_commit=False) as session:
            async with reaching(self._engine, "beginning a change"):
                change = await PostgresChange.begin(session, actor, experiments=experiments)
            yield change
            await change.commit()

    async def read(self, *, experiments: bool = True) -> Configuration:
        """Everything at the present revision; with `experiments=False` no table of experiments is touched."""
        return await (self._configuration if experiments else self._without_experiments).read()

    async def flags(self) -> Sequence[FlagRecord]:
        """Every flag with its last change, by key."""
        async with reaching(self._engine, "reading flags"), AsyncSession(self._engine) as session:
            return [flag_of(row) for row in await session.exec(FLAGS)]

    async def flag_history(
        self, key: str, *, before: int | None = None, most: int | None = None
    ) -> Sequence[FlagRevision]:
        """What a flag said below a revision (None: ever), newest first."""
        wanted = (
            select(FlagRevisionRow)
            .where(FlagRevisionRow.key == key)
            .order_by(col(FlagRevisionRow.revision).desc())
            .limit(most)
        )
        if before is not None:
            wanted = wanted.where(col(FlagRevisionRow.revision) < before)
        async with reaching(self._engine, "reading a flag's history"), AsyncSession(self._engine) as session:
            return [flag_revision_of(row) for row in await session.exec(wanted)]

    async def flags_at(self, revision: int) -> Mapping[str, Mapping[str, Any]]:
        """Every flag's definition by key, as it was at that revision."""
        async with reaching(self._engine, "reading former flags"), AsyncSession(self._engine) as session:
            return await read_flags_at(session, revision)

    async def flags_within(
        self, keys: Sequence[str], *, first_revision: int, last_revision: int | None
    ) -> Sequence[FlagRecord]:
        """Every definition that flags had between two revisions (None: to the present one), oldest first."""
        former = aliased(FlagRevisionRow)
        at_first = select(func.max(former.revision)).where(
            former.key == FlagRevisionRow.key, col(former.revision) <= first_revision
        )
        since = func.coalesce(at_first.scalar_subquery(), 0)
        wanted = (
            select(FlagRevisionRow)
            .where(col(FlagRevisionRow.key).in_(keys), col(FlagRevisionRow.revision) >= since)
            .order_by(col(FlagRevisionRow.revision))
        )
        if last_revision is not None:
            wanted = wanted.where(col(FlagRevisionRow.revision) <= last_revision)
        async with reaching(self._engine, "reading the history of flags"), AsyncSession(self._engine) as session:
            return [flag_of(found) for found in await session.exec(wanted)]

    async def experiments(self, model: str | None = None, *, running: bool = False) -> Sequence[Experiment]:
        """Those of a model (None: of all), newest first; `running`: those that run."""
        wanted = select(ExperimentRow).order_by(col(ExperimentRow.id).desc())
        if model is not None:
            wanted = wanted.where(ExperimentRow.model == model)
        if running:
            wanted = wanted.where(col(ExperimentRow.stopped_at).is_(None))
        async with reaching(self._engine, "reading experiments"), AsyncSession(self._engine) as session:
            return [experiment_of(row) for row in await session.exec(wanted)]

    async def experiment(self, experiment_id: int) -> Experiment | None:
        """One; None: there is none."""
        if experiment_id > LARGEST_ID:
            # Links may have any number; a column takes none of these.
            return None
        async with reaching(self._engine, "reading an experiment"), AsyncSession(self._engine) as session:
            row = await session.get(ExperimentRow, experiment_id)
            return None if row is None else experiment_of(row)

    async def latest_experiment(self, model: str) -> Experiment | None:
        """A model's newest, which is the one that runs if any does; None: it had none."""
        wanted = select(ExperimentRow).where(ExperimentRow.model == model)
        async with reaching(self._engine, "reading the latest experiment"), AsyncSession(self._engine) as session:
            row = (await session.exec(wanted.order_by(col(ExperimentRow.id).desc()).limit(1))).first()
            return None if row is None else experiment_of(row)

    async def epochs(self, experiment_id: int) -> Sequence[Epoch]:
        """An experiment's epochs, by number."""
        wanted = (
            select(EpochRow, ExperimentRow)
            .join(ExperimentRow, col(ExperimentRow.id) == EpochRow.experiment_id)
            .where(EpochRow.experiment_id == experiment_id)
            .order_by(col(EpochRow.number))
        )
        async with reaching(self._engine, "reading epochs"), AsyncSession(self._engine) as session:
            rows = (await session.exec(wanted)).all()
        return [
            epoch_of(
                epoch,
                model=experiment.model,
                bucket_seconds=experiment.bucket_seconds,
                schedule=experiment.schedule,
                ends_at=experiment.ends_at.timestamp(),
            )
            for epoch, experiment in rows
        ]

    async def rollup(self, epoch_id: int, families: Sequence[str] = ()) -> Rollup:
        """An epoch's counts of these families (none: of all), summed over its buckets."""
        cell = (col(RollupRow.family), col(RollupRow.subject), col(RollupRow.level))
        wanted = select(*cell, func.sum(col(RollupRow.n))).where(RollupRow.epoch_id == epoch_id).group_by(*cell)
        if families:
            wanted = wanted.where(col(RollupRow.family).in_(families))
        async with reaching(self._engine, "reading counts"), AsyncSession(self._engine) as session:
            rows = (await session.exec(wanted)).all()
        return Rollup({Cell(family, subject, level): int(n) for family, subject, level, n in rows})

    async def buckets(self, epoch_id: int, families: Sequence[str]) -> Mapping[int, Rollup]:
        """An epoch's counts of these families, by the bucket's start in seconds since the Unix epoch, oldest first."""
        table = (col(RollupRow.bucket_start), col(RollupRow.family), col(RollupRow.subject))
        # A row for each table, not for each count: weeks of segments hold a hundred thousand counts.
        wanted = (
            select(*table, func.json_object_agg(col(RollupRow.level), col(RollupRow.n)))
            .where(RollupRow.epoch_id == epoch_id, col(RollupRow.family).in_(families))
            .group_by(*table)
            .order_by(col(RollupRow.bucket_start))
        )
        tables: dict[int, dict[tuple[str, str], Mapping[str, int]]] = {}
        async with reaching(self._engine, "reading counts by bucket"), AsyncSession(self._engine) as session:
            for start, family, subject, counts in await session.exec(wanted):
                tables.setdefault(int(start.timestamp()), {})[family, subject] = counts
        return {start: Rollup(tables=bucket) for start, bucket in tables.items()}

    async def reviewed_of_top(self, epoch_id: int, version: str) -> tuple[int, int]:
        """Of a candidate's least similar divergent answers (at most ten): how many have a verdict, and how many are."""
        return await self._reviews.reviewed_of_top(epoch_id, version)

    async def gate_records(self, epoch_id: int) -> Sequence[Record]:
        """Attestations and waivers of an epoch, oldest first."""
        wanted = select(GateRecordRow).where(GateRecordRow.epoch_id == epoch_id).order_by(col(GateRecordRow.id))
        async with reaching(self._engine, "reading attestations and waivers"), AsyncSession(self._engine) as session:
            return [gate_record_of(row) for row in await session.exec(wanted)]

    async def processes(self) -> Sequence[ProcessStatus]:
        """What processes last said of themselves, newest first."""
        wanted = select(ProcessRow).order_by(col(ProcessRow.seen_at).desc())
        async with reaching(self._engine, "reading processes"), AsyncSession(self._engine) as session:
            return [process_of(row) for row in await session.exec(wanted)]
