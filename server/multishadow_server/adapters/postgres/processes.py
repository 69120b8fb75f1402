"""Where processes report themselves."""

from __future__ import annotations

import json

from sqlalchemy import delete, text
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
        # One statement needs no transaction around it: a promotion waits for this, and each round trip is time.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def report(self, status: ProcessStatus) -> None:
        """Say how this process is; the database's time is its `seen_at`. Raises StoreUnavailable."""
        said = {
            "role": status.role,
            "instance": status.instance,
            "host": status.host,
            "pid": status.pid,
            "started_at": moment(status.started_at),
            "revision": status.revision,
            "counters": json.dumps(dict(status.counters)),
            "flag_source": status.flag_source,
            "program": status.program,
        }
        async with reaching(self._engine, "reporting a process"), self._single.connect() as connection:
            await connection.execute(_REPORT, said)

    async def withdraw(self, instance: str) -> None:
        """This process ends in order, with all its roles. Raises StoreUnavailable."""
        async with reaching(self._engine, "withdrawing a process"), self._engine.begin() as connection:
            await connection.execute(delete(ProcessRow).where(col(ProcessRow.instance) == instance))


# Written out: every process says it every second, and to compose a statement takes longer than to run it.
_REPORT = text(
    """
    INSERT INTO process
        (role, instance, host, pid, started_at, revision, counters, flag_source, program, seen_at)
    VALUES (:role, :instance, :host, :pid, :started_at, :revision, CAST(:counters AS jsonb), :flag_source, :program,
            clock_timestamp())
    ON CONFLICT (role, instance) DO UPDATE SET
        host = EXCLUDED.host, pid = EXCLUDED.pid, started_at = EXCLUDED.started_at, revision = EXCLUDED.revision,
        counters = EXCLUDED.counters, flag_source = EXCLUDED.flag_source, program = EXCLUDED.program,
        seen_at = EXCLUDED.seen_at
    """
)
