"""Reading the configuration, and hearing of its changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from psycopg import AsyncConnection
from sqlalchemy import TextClause, func, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import open_connection, reaching, translated
from multishadow_server.adapters.postgres.records import epoch_of, models_of
from multishadow_server.adapters.postgres.tables import (
    EpochRow,
    FlagRevisionRow,
    FlagRow,
    ModelRow,
    VersionRow,
)
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch

CHANNEL = "multishadow_configuration"
_PRESENT_REVISION = "SELECT revision FROM configuration_revision"
Snapshot: TypeAlias = dict[str, Any]
# How long after an epoch closed its captures may still arrive: lagging and off-peak workers.
LATE_CAPTURES = "24 hours"


class PostgresConfiguration:
    """Where routers and workers read models, flags and epochs: a ConfigurationSource.

    Args:
        engine: see `open_engine`.
        experiments: whether epochs are read too. Who does not need them goes on when the tables of experiments are
            broken or locked: a router has to hear of a rollback then.
        remember: given what was read, of which `configuration_of` makes the configuration; must not block.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        experiments: bool = True,
        remember: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        # A statement is its own snapshot; a transaction around it would only cost two round trips more.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._experiments = experiments
        self._remember = remember

    async def read(self) -> Configuration:
        """Everything at the present revision, in one snapshot of the database. Raises StoreUnavailable."""
        async with reaching(self._engine, "reading the configuration"), AsyncSession(self._single) as session:
            snapshot = await _read_snapshot(session, experiments=self._experiments)
        configuration = configuration_of(snapshot)
        self._remember(snapshot)
        return configuration

    async def revision(self) -> int:
        """The present revision alone. Raises StoreUnavailable."""
        async with reaching(self._engine, "reading the revision"), self._single.connect() as connection:
            return int((await connection.execute(_REVISION)).scalar_one())

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
                async with aclosing(_announced(connection)) as announcements:
                    async for revision in announcements:
                        yield revision
        finally:
            await connection.close()


async def _announced(connection: AsyncConnection) -> AsyncGenerator[int, None]:
    """Each revision that is announced.

    The driver's own waiting looks ten times a second whether it was interrupted; this one is told by the loop.
    """
    # What came with the answers to other statements; it waits for nothing.
    async with aclosing(connection.notifies(timeout=0)) as notifications:
        async for notification in notifications:
            yield int(notification.payload)
    while True:
        await _readable(connection.fileno())
        connection.pgconn.consume_input()
        while (announcement := connection.pgconn.notifies()) is not None:
            yield int(announcement.extra)


async def _readable(descriptor: int) -> None:
    """Wait until something came, or the connection ended."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(descriptor)


async def _present_revision(connection: AsyncConnection) -> int:
    row = await (await connection.execute(_PRESENT_REVISION)).fetchone()
    assert row is not None
    return int(row[0])


async def read_configuration(session: AsyncSession, *, experiments: bool = True) -> Configuration:
    """Everything at the present revision: one statement, so one snapshot and one round trip.

    Without `experiments` it has no epochs, and no table of experiments is touched.
    """
    return configuration_of(await _read_snapshot(session, experiments=experiments))


async def _read_snapshot(session: AsyncSession, *, experiments: bool) -> Snapshot:
    wanted = _SNAPSHOT if experiments else _WITHOUT_EPOCHS
    snapshot: Snapshot = (await (await session.connection()).execute(wanted)).scalar_one()
    return snapshot


def configuration_of(snapshot: Snapshot) -> Configuration:
    """The configuration of what was read; the rows of the database as JSON."""
    models = (ModelRow.model_validate(row) for row in snapshot["models"])
    versions = (VersionRow.model_validate(row) for row in snapshot["versions"])
    return Configuration(
        revision=snapshot["revision"],
        models=models_of(models, versions),
        flags=snapshot["flags"],
        epochs=_epochs_of(snapshot["epochs"]),
    )


async def read_flags_at(session: AsyncSession, revision: int) -> Mapping[str, Mapping[str, Any]]:
    """Every flag's definition by key, as it was at that revision."""
    newest = (
        select(FlagRevisionRow.key, func.max(FlagRevisionRow.revision).label("revision"))
        .where(FlagRevisionRow.revision <= revision)
        .group_by(FlagRevisionRow.key)
        .subquery()
    )
    wanted = select(FlagRevisionRow.key, FlagRevisionRow.definition).join(
        newest,
        (newest.c.key == col(FlagRevisionRow.key)) & (newest.c.revision == col(FlagRevisionRow.revision)),
    )
    rows = (await session.exec(wanted)).all()
    return {key: definition for key, definition in rows if definition is not None}


async def read_epochs(session: AsyncSession) -> tuple[Epoch, ...]:
    """The epochs of a configuration, alone."""
    return _epochs_of((await (await session.connection()).execute(_EPOCHS_ALONE)).scalar_one())


def _epochs_of(rows: Sequence[dict[str, Any]]) -> tuple[Epoch, ...]:
    return tuple(
        epoch_of(EpochRow.model_validate(row["epoch"]), **{key: row[key] for key in row if key != "epoch"})
        for row in rows
    )


_EPOCHS = f"""
    (SELECT coalesce(json_agg(
                json_build_object('epoch', epoch, 'model', model, 'bucket_seconds', bucket_seconds,
                                  'schedule', schedule, 'ends_at', extract(epoch FROM ends_at))
                ORDER BY epoch.id), '[]')
     FROM epoch JOIN experiment ON experiment.id = experiment_id
     WHERE stopped_at IS NULL OR closed_at > clock_timestamp() - interval '{LATE_CAPTURES}')
"""  # noqa: S608  a constant


def _snapshot(epochs: str) -> TextClause:
    # A promotion waits for this reading in every router. Row by row, through five statements in a transaction of their
    # own, it took 7 ms of processor time and nine round trips.
    return text(
        f"""
        SELECT json_build_object(
            'revision', ({_PRESENT_REVISION}),
            'models', (SELECT coalesce(json_agg(model), '[]') FROM model),
            'versions', (SELECT coalesce(json_agg(version), '[]') FROM version),
            'flags', (SELECT coalesce(json_object_agg(key, definition ORDER BY key), '{{}}')
                      FROM flag JOIN flag_revision USING (key, revision)),
            'epochs', {epochs})
        """  # noqa: S608  a constant
    )


_SNAPSHOT = _snapshot(_EPOCHS)
_WITHOUT_EPOCHS = _snapshot("'[]'::json")
_EPOCHS_ALONE = text(f"SELECT {_EPOCHS}")
# Written out: every router asks for it every other second.
_REVISION = text(_PRESENT_REVISION)
FLAGS = (
    select(FlagRevisionRow)
    .join(FlagRow, (col(FlagRow.key) == FlagRevisionRow.key) & (col(FlagRow.revision) == FlagRevisionRow.revision))
    .order_by(col(FlagRevisionRow.key))
)
