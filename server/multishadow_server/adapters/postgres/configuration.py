"""Reading the configuration, and hearing of its changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from psycopg import AsyncConnection
from sqlalchemy import func, or_, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import open_connection, reaching, translated
from multishadow_server.adapters.postgres.records import epoch_of, models_of
from multishadow_server.adapters.postgres.tables import (
    ConfigurationRevisionRow,
    EpochRow,
    ExperimentRow,
    FlagRevisionRow,
    FlagRow,
    ModelRow,
    VersionRow,
)
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch

CHANNEL = "multishadow_configuration"
# How long after an epoch closed its captures may still arrive: lagging and off-peak workers.
LATE_CAPTURES = "24 hours"


class PostgresConfiguration:
    """Where routers and workers read models, flags and epochs: a ConfigurationSource.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self) -> Configuration:
        """Everything at the present revision, in one snapshot of the database. Raises StoreUnavailable."""
        snapshot = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with reaching(self._engine, "reading the configuration"), AsyncSession(snapshot) as session:
            return await read_configuration(session)

    async def revision(self) -> int:
        """The present revision alone. Raises StoreUnavailable."""
        async with reaching(self._engine, "reading the revision"), AsyncSession(self._engine) as session:
            return (await session.exec(_REVISION)).one()

    async def changes(self) -> AsyncGenerator[int, None]:
        """The present revision, then each one as it is committed. Raises StoreUnavailable when the connection is lost.

        The present revision comes first, after listening began: who reads the configuration on each can miss none.
        Close it (`contextlib.aclosing`) to give its connection back.
        """
        connection = await open_connection(self._engine.url)
        try:
            async with reaching(self._engine, "listening for changes"):
                await connection.execute(f"LISTEN {CHANNEL}")
                present = await _present_revision(connection)
            yield present
            with translated(self._engine.url, "listening for changes"):
                async with aclosing(connection.notifies()) as notifications:
                    async for notification in notifications:
                        yield int(notification.payload)
        finally:
            await connection.close()


async def _present_revision(connection: AsyncConnection) -> int:
    row = await (await connection.execute("SELECT revision FROM configuration_revision")).fetchone()
    assert row is not None
    return int(row[0])


async def read_configuration(session: AsyncSession) -> Configuration:
    """Everything at the present revision; the session's transaction must keep it from changing meanwhile."""
    revision = (await session.exec(_REVISION)).one()
    models = (await session.exec(select(ModelRow))).all()
    versions = (await session.exec(select(VersionRow))).all()
    flags = (await session.exec(FLAGS)).all()
    return Configuration(
        revision=revision,
        models=models_of(models, versions),
        flags={flag.key: flag.definition for flag in flags},
        epochs=await _epochs(session),
    )


async def _epochs(session: AsyncSession) -> tuple[Epoch, ...]:
    """Epochs of running experiments, and those closed within the time in which late captures may arrive."""
    recently = func.clock_timestamp() - text(f"interval '{LATE_CAPTURES}'")
    wanted = (
        select(EpochRow, ExperimentRow.model, ExperimentRow.bucket_seconds)
        .join(ExperimentRow, col(ExperimentRow.id) == col(EpochRow.experiment_id))
        .where(or_(col(ExperimentRow.stopped_at).is_(None), col(EpochRow.closed_at) > recently))
        .order_by(col(EpochRow.id))
    )
    rows = (await session.exec(wanted)).all()
    return tuple(epoch_of(row, model=model, bucket_seconds=bucket_seconds) for row, model, bucket_seconds in rows)


_REVISION = select(ConfigurationRevisionRow.revision)
FLAGS = (
    select(FlagRevisionRow)
    .join(FlagRow, (col(FlagRow.key) == FlagRevisionRow.key) & (col(FlagRow.revision) == FlagRevisionRow.revision))
    .order_by(col(FlagRevisionRow.key))
)
