"""Where processes report themselves."""

from __future__ import annotations

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment
from multishadow_server.adapters.postgres.tables import ProcessRow
from multishadow_server.service.ports import ProcessStatus


class PostgresProcesses:
    """A ProcessRegistry. A process is known by its role and its instance, so `serve` may report three.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def report(self, status: ProcessStatus) -> None:
        """Say how this process is; the database's time is its `seen_at`. Raises StoreUnavailable."""
        said = {
            "host": status.host,
            "pid": status.pid,
            "started_at": moment(status.started_at),
            "revision": status.revision,
            "counters": dict(status.counters),
            "flag_source": status.flag_source,
            "program": status.program,
            "seen_at": func.clock_timestamp(),
        }
        statement = insert(ProcessRow).values(role=status.role, instance=status.instance, **said)
        upsert = statement.on_conflict_do_update(index_elements=["role", "instance"], set_=said)
        # One statement needs no transaction around it: a promotion waits for this, and each round trip is time.
        single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        async with reaching(self._engine, "reporting a process"), single.connect() as connection:
            await connection.execute(upsert)

    async def withdraw(self, instance: str) -> None:
        """This process ends in order, with all its roles. Raises StoreUnavailable."""
        async with reaching(self._engine, "withdrawing a process"), self._engine.begin() as connection:
            await connection.execute(delete(ProcessRow).where(col(ProcessRow.instance) == instance))
