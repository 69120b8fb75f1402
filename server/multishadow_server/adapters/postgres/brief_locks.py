"""Changes of tables that others use: locks are asked for briefly, and again, so that nobody queues behind them.

Who makes or drops a partition wants a whole table for itself, and waits for whoever reads it; and whoever comes after
waits behind that, however short its own work would be. Asked for briefly, a lock that cannot be had holds up others for
a moment at a time. A change is one transaction with as few tables as can be: who waits for a second table while holding
a first one stops all users of the first, and deadlocks with those who take them the other way round.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, text
from sqlalchemy import exc as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import OPERATION_SECONDS, cancelled_first, lacked_a_lock, translated

# Shorter than PostgreSQL's deadlock_timeout (a second by default): in a deadlock it is nearly always the change that
# gives way.
_BRIEFLY = text("SET LOCAL lock_timeout = '250ms'")
# An autovacuum that is in the way is ended by PostgreSQL, once it has been waited for as long as deadlock_timeout.
_AS_LONG_AS_A_VACUUM = text(
    "SELECT set_config('lock_timeout', (extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 + 500)"
    "::int::text, true)"
)
_VACUUMED = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE pid IN (SELECT pid FROM pg_stat_progress_vacuum UNION SELECT pid FROM pg_stat_progress_analyze)
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND relation IN (SELECT inhrelid FROM pg_inherits)
            AND mode = 'ShareUpdateExclusiveLock' AND granted
    )
    """
)
# Several processes do not ask in step, nor in step with what comes at regular intervals.
PAUSE_SECONDS = (0.5, 1.5)

Changed = TypeVar("Changed")


async def change(
    engine: AsyncEngine, purpose: str, work: Callable[[Connection], Changed], *, patience: float
) -> Changed:
    """Do the work in a transaction of its own, as often as it takes to get its locks; returns what it returns.

    Args:
        engine: see `open_engine`.
        purpose: what it is for, as a participle: for the error.
        work: what is to be done; all of it is undone when a lock cannot be had.
        patience: seconds for which it is tried again, if need be.

    Raises:
        StoreUnavailable: PostgreSQL is away, or a lock could not be had in all that time; nothing was changed.
    """
    until = time.monotonic() + patience
    with translated(engine.url, purpose):
        while True:
            try:
                # Within the loop: an error that stands for a cancellation is none that is tried again.
                with cancelled_first():
                    async with asyncio.timeout(OPERATION_SECONDS), engine.begin() as connection:
                        vacuumed = (await connection.execute(_VACUUMED)).scalar_one()
                        await connection.execute(_AS_LONG_AS_A_VACUUM if vacuumed else _BRIEFLY)
                        return await connection.run_sync(work)
            except sa.OperationalError as error:
                if not lacked_a_lock(error) or time.monotonic() > until:
                    raise
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311  no secret
