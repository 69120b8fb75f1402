"""Stored comparisons and kept answers by day: partitions made ahead, and dropped when they are old.

Dropping a partition costs the same however much it holds; deleting rows would not. Each is made or dropped by itself,
in a moment in which nobody uses its table: see `brief_locks`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import brief_locks
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.errors import MultishadowError, StoreUnavailable
from multishadow_server.service.ending import set_within

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600.0
# For a table that is in use, before the day is left to the next time.
PATIENCE_SECONDS = 60.0
DAYS_AHEAD = 7
# Processes that ended without a word are forgotten after this.
PROCESS_DAYS = 1
COMPARISONS, ANSWERS = "comparison", "answer"
# A rollout that is paused for longer begins its stage's counts anew.
LIVE_COUNT_DAYS = 14
# Sessions that are still open then belong to a log that was deleted, or that nobody works on.
SESSION_DAYS = 30
_PURPOSE = "keeping the days of comparisons and answers"
_LOCK = 0x6D756C74_64617973  # "multdays": one process at a time keeps the partitions


class PostgresRetention:
    """Keeps the partitions of stored comparisons, and those of answers for as long as the models' labels ask.

    Args:
        engine: see `open_engine`.
        keep_days: whole days that stored comparisons are kept.
        patience: seconds for which a partition that is in use is asked for again, before it is left to the next time.
    """

    def __init__(self, engine: AsyncEngine, *, keep_days: int, patience: float = PATIENCE_SECONDS) -> None:
        self._engine = engine
        self._keep_days = keep_days
        self._patience = patience
        self._days_dropped = 0

    def counters(self) -> Mapping[str, int]:
        """How many days' partitions were dropped for their age since the start."""
        return {"retention.days_expired": self._days_dropped}

    async def run(self, stop: asyncio.Event) -> None:
        """Enforce it now and every hour, until `stop` is set. An hour in which it could not be done is no harm."""
        while not stop.is_set():
            try:
                await self.enforce()
            except MultishadowError as error:
                logger.warning("days of comparisons are kept later: %s", error)
            except Exception:
                # A role that may not drop tables, for example: control goes on without.
                logger.exception("days of comparisons cannot be kept")
            await set_within(stop, INTERVAL_SECONDS)

    async def enforce(self) -> None:
        """Make the coming days' partitions, drop those past retention, forget dead processes and what is stale.

        Raises:
            StoreUnavailable: not now, or a table is in use; what could be done is done, and the rest the next time.
        """
        kept = {COMPARISONS: self._keep_days, ANSWERS: math.ceil(await self._forget() / 86_400)}
        # What one of them cannot have is no reason to leave the others undone.
        steps: list[Callable[[], Awaitable[None]]] = [partial(self._make_days, kept)]
        for table, keep_days in kept.items():
            steps += [partial(self._drop_days, table, keep_days), partial(self._delete_late, table, keep_days)]
        failures = []
        for step in steps:
            try:
                await step()
            except StoreUnavailable as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _forget(self) -> float:
        """Forget what is stale; returns for how many seconds labels are waited for at most."""
        async with reaching(self._engine, _PURPOSE), self._engine.begin() as connection:
            await connection.execute(_FORGET_PROCESSES, {"days": PROCESS_DAYS})
            await connection.execute(_FORGET_LIVE_COUNTS, {"days": LIVE_COUNT_DAYS})
            await connection.execute(_FORGET_SESSIONS, {"days": SESSION_DAYS})
            await connection.execute(_FORGET_DEAD_LETTERS)
            await connection.execute(_FORGET_SEEN_INPUTS)
            return float((await connection.execute(_LONGEST_LABEL_KEEP)).scalar_one())

    async def _make_days(self, kept: Mapping[str, int]) -> None:
        while await self._briefly(partial(_make_next_day, kept=kept)):
            pass

    async def _drop_days(self, table: str, keep_days: int) -> None:
        while await self._briefly(partial(_drop_next_day, table=table, keep_days=keep_days)):
            self._days_dropped += 1

    async def _delete_late(self, table: str, keep_days: int) -> None:
        async with reaching(self._engine, _PURPOSE), self._engine.begin() as connection:
            await connection.run_sync(_delete_late, table, keep_days=keep_days)

    async def _briefly(self, work: Callable[[Connection], bool]) -> bool:
        return await brief_locks.change(self._engine, _PURPOSE, work, patience=self._patience)


def prepare_days(connection: Connection) -> None:
    """Make the partitions from yesterday's to those a week ahead, of a database that is being migrated."""
    _alone(connection)
    for table, day in _missing_days(connection, {COMPARISONS: 1, ANSWERS: 1}):
        _make_day(connection, table, day)


def drop_day(connection: Connection, table: str, day: date) -> None:
    """Drop a day's partition, unless somebody has dropped it meanwhile, for its age or because the store is full."""
    connection.execute(text(f"DROP TABLE IF EXISTS {_partition(table, day)}"))


def _make_next_day(connection: Connection, *, kept: Mapping[str, int]) -> bool:
    """Make the first partition that is missing; whether there was one."""
    _alone(connection)
    missing = _missing_days(connection, kept)
    if missing:
        _make_day(connection, *missing[0])
    return bool(missing)


def _missing_days(connection: Connection, kept: Mapping[str, int]) -> Sequence[tuple[str, date]]:
    """Which partitions are missing of those from yesterday's to those a week ahead: tables and days.

    Yesterday's is for captures that come late, unless `kept`, the days that a table's rows are kept, says that they go.
    """
    today = _today(connection)
    return [
        (table, day)
        for table, keep_days in kept.items()
        for present in [_days(connection, table)]
        for day in (today + timedelta(days=offset) for offset in range(-min(1, keep_days), DAYS_AHEAD + 1))
        if day not in present
    ]


def _drop_next_day(connection: Connection, *, table: str, keep_days: int) -> bool:
    """Drop the oldest partition that holds nothing younger than `keep_days` days; whether there was one."""
    _alone(connection)
    oldest = min(_days(connection, table), default=None)
    if oldest is None or oldest >= _kept_from(connection, keep_days):
        return False
    drop_day(connection, table, oldest)
    return True


def _delete_late(connection: Connection, table: str, *, keep_days: int) -> None:
    """Delete what the default partition took of days past retention."""
    late = text(f"DELETE FROM {table}_default WHERE day < :oldest")  # noqa: S608  a constant
    connection.execute(late, {"oldest": _kept_from(connection, keep_days)})


def _alone(connection: Connection) -> None:
    """Keep other processes from the partitions until this transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _kept_from(connection: Connection, keep_days: int) -> date:
    return _today(connection) - timedelta(days=keep_days)


def _make_day(connection: Connection, table: str, day: date) -> None:
    """Make a day's partition; what the default partition took of it (nobody had made it in time) moves there."""
    # Filled before it is attached: the default partition may hold no row of a day that has its own.
    name, bounds = _partition(table, day), {"from": day, "until": day + timedelta(days=1)}
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"))
    connection.execute(
        text(
            f"WITH moved AS (DELETE FROM {table}_default WHERE day = :day RETURNING *) "  # noqa: S608  made of digits
            f"INSERT INTO {name} SELECT * FROM moved"
        ),
        {"day": day},
    )
    attach = text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM (:from) TO (:until)")
    # DDL takes no parameters: the two dates are written out by the dialect.
    literal = attach.bindparams(*(bindparam(key, value, literal_execute=True) for key, value in bounds.items()))
    connection.execute(literal)


def _days(connection: Connection, table: str) -> set[date]:
    names = connection.execute(_PARTITIONS, {"parent": table}).scalars()
    return {datetime.strptime(name[-8:], "%Y%m%d").date() for name in names if name != f"{table}_default"}  # noqa: DTZ007  a day's name has no zone


def _today(connection: Connection) -> date:
    return connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()  # type: ignore[no-any-return]  # the driver's type is not known here


def _partition(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


_PARTITIONS = text(
    "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
    "WHERE inhparent = CAST(:parent AS regclass)"
)
_LONGEST_LABEL_KEEP = text("SELECT COALESCE(MAX(CAST(labels->>'keep' AS float)), 0) FROM model")
_FORGET_PROCESSES = text("DELETE FROM process WHERE seen_at < clock_timestamp() - make_interval(days => :days)")
_FORGET_SESSIONS = text("DELETE FROM open_session WHERE last_at < clock_timestamp() - make_interval(days => :days)")
_FORGET_DEAD_LETTERS = text("DELETE FROM dead_letter WHERE expires_at < clock_timestamp()")
# Of logs that were deleted and made again, all but the newest two of a name. Offsets stay: they are few,
# and keep a log that comes back from counting twice.
_FORGET_SEEN_INPUTS = text(
    """
    DELETE FROM seen_inputs
    WHERE log_id IN (
        SELECT log_id
        FROM (
            SELECT log_id,
                   rank() OVER (PARTITION BY split_part(log_id, '@', 1) ORDER BY split_part(log_id, '@', 2) DESC)
            FROM (SELECT DISTINCT log_id FROM partition_offset) AS logs
        ) AS ranked
        WHERE rank > 2
    )
    """
)
_FORGET_LIVE_COUNTS = text("DELETE FROM live_count WHERE seen_at < clock_timestamp() - make_interval(days => :days)")
