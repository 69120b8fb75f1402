"""Bounds of what is stored: by age and size for each model, by size for all of them. The oldest goes first.

Rows that are deleted leave their bytes in the files, so tables are rewritten or dropped, and what is measured is files.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from functools import partial

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from multishadow_server.adapters.postgres import brief_locks, reclaiming
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.engine import cancelled_first, translated
from multishadow_server.adapters.postgres.erasing import Erasing
from multishadow_server.adapters.postgres.retention import ANSWERS, COMPARISONS, drop_day
from multishadow_server.core.model import Model
from multishadow_server.errors import MultishadowError
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import Selection

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
TERMS_SECONDS = 3600.0
# A full store is emptied by a fifth of its bound, so that it is not emptied anew every minute.
KEPT_SHARE = 0.8
# For a day that is in use; it is asked for again at the next look.
PATIENCE_SECONDS = 10.0
_PURPOSE = "keeping stored traffic within its bounds"
LOCK = 0x6D756C74_626F756E  # "multboun": one process at a time deletes


class PostgresBounds:
    """Keeps stored traffic within its bounds.

    Args:
        engine: see `open_engine`.
        most_bytes: of comparisons and answers of all models, files of tables and indexes included; None for no bound.
    """

    def __init__(self, engine: AsyncEngine, *, most_bytes: int | None) -> None:
        self._engine = engine
        self._most_bytes = most_bytes
        self._configuration = PostgresConfiguration(engine, experiments=False)
        self._erasing = Erasing(engine)
        self._counters: Counter[str] = Counter()
        self._terms_at = -TERMS_SECONDS

    def counters(self) -> Mapping[str, int]:
        """What was deleted since the start, and how much is stored."""
        return {f"retention.{name}": number for name, number in self._counters.items()}

    async def run(self, stop: asyncio.Event) -> None:
        """Enforce them now and every minute, until `stop` is set."""
        while not stop.is_set():
            try:
                await self._look()
            except MultishadowError as error:
                logger.warning("stored traffic is kept within its bounds later: %s", error)
            except Exception:
                # A role that may not drop tables, for example: control goes on without.
                logger.exception("stored traffic cannot be kept within its bounds")
            await set_within(stop, LOOK_SECONDS)

    async def _look(self) -> None:
        # First, for it needs no table for itself: somebody's long report does not keep it from being done.
        if time.monotonic() - self._terms_at >= TERMS_SECONDS:
            # Also when it fails: an hour in which it could not be done is no harm.
            self._terms_at = time.monotonic()
            await self.enforce_terms()
        if self._most_bytes is not None:
            await self.enforce_size()

    async def enforce_terms(self) -> None:
        """Delete what is older, or more, than its model's privacy terms allow. Raises StoreUnavailable."""
        models = (await self._configuration.read()).models.values()
        bounded = [each for each in models if each.privacy.keep is not None or each.privacy.keep_bytes is not None]
        if not bounded:
            return
        async with self._alone() as connection:
            if connection is None:
                return
            for model in bounded:
                before = await self._kept_since(connection, model)
                if before is not None:
                    await self._delete(model, before)

    async def _kept_since(self, connection: AsyncConnection, model: Model) -> float | None:
        """Before when everything of a model is to go; None when nothing is."""
        now = (await connection.execute(_NOW)).scalar_one().timestamp()
        cuts = [now - model.privacy.keep] if model.privacy.keep is not None else []
        if model.privacy.keep_bytes is not None:
            cut = await _cut_by_size(connection, model.name, model.privacy.keep_bytes)
            cuts += [] if cut is None else [cut]
        return max(cuts, default=None)

    async def _delete(self, model: Model, before: float) -> None:
        erased = await self._erasing.erase(model.name, Selection(before=before), rewrite_today=False)
        rows = erased.comparisons + erased.answers
        if rows:
            self._counters["rows_deleted"] += rows
            self._counters["bytes_freed"] += erased.bytes_freed
            logger.info("%s: %d stored comparisons and answers were past its privacy terms", model.name, rows)

    async def enforce_size(self) -> None:
        """Delete the oldest days, and if need be the oldest of today, until what is stored is within its bound.

        Raises:
            StoreUnavailable: not now.
        """
        assert self._most_bytes is not None
        async with self._alone() as connection:
            if connection is None:
                return
            size = await self._size(connection)
            if size > self._most_bytes:
                await self._shrink(connection, size)
                size = await self._size(connection)
            self._counters["stored_bytes"] = size

    async def _shrink(self, connection: AsyncConnection, size: int) -> None:
        assert self._most_bytes is not None
        before, wanted = size, int(KEPT_SHARE * self._most_bytes)
        today = (await connection.execute(_TODAY)).scalar_one()
        try:
            size = await self._empty_default(connection, today)
            for day in await _days_before(connection, today):
                if size <= wanted:
                    break
                for parent in (COMPARISONS, ANSWERS):
                    drop = partial(drop_day, table=parent, day=day)
                    await brief_locks.change(self._engine, _PURPOSE, drop, patience=PATIENCE_SECONDS)
                    size = await self._size(connection)
                self._counters["days_dropped"] += 1
            if size > self._most_bytes:
                await self._empty_today(connection, today, size - wanted)
                size = await self._size(connection)
        finally:
            # Also of what was done before a day could not be had.
            self._counters["bytes_freed"] += max(0, before - size)
            if size < before:
                logger.warning(
                    "stored traffic had %d bytes, %d are allowed: the oldest was deleted, %d are left",
                    *(before, self._most_bytes, size),
                )

    async def _empty_default(self, connection: AsyncConnection, today: date) -> int:
        """Late rows, which no day's partition took, are the oldest there are."""
        emptied = []
        for parent in (COMPARISONS, ANSWERS):
            gone = await connection.execute(
                text(f"DELETE FROM {parent}_default WHERE day < :day"),  # noqa: S608  a constant
                {"day": today - timedelta(days=1)},
            )
            self._counters["rows_deleted"] += gone.rowcount
            emptied += [f"{parent}_default"] if gone.rowcount else []
        await reclaiming.reclaim(self._engine.url, emptied)
        return await self._size(connection)

    async def _empty_today(self, connection: AsyncConnection, today: date, excess: int) -> None:
        found = await connection.execute(_CUT_OF_TODAY, {"day": today, "excess": excess})
        cut = found.scalar_one_or_none()
        if cut is None:
            return
        partitions = [f"{parent}_{today:%Y%m%d}" for parent in (COMPARISONS, ANSWERS)]
        for partition in partitions:
            gone = await connection.execute(
                text(f"DELETE FROM {partition} WHERE received_at <= :cut"),  # noqa: S608  made of digits
                {"cut": cut},
            )
            self._counters["rows_deleted"] += gone.rowcount
        await reclaiming.reclaim(self._engine.url, partitions)

    async def _size(self, connection: AsyncConnection) -> int:
        return int((await connection.execute(_SIZE, {"parents": [COMPARISONS, ANSWERS]})).scalar_one())

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[AsyncConnection | None]:
        """A connection that commits each statement by itself; None while another process does the same."""
        single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        with cancelled_first(), translated(self._engine.url, _PURPOSE):
            async with single.connect() as connection:
                if not (await connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK})).scalar():
                    yield None
                    return
                try:
                    # Adding up what a busy model has may take longer than a request may.
                    await connection.execute(text("SET statement_timeout = 0"))
                    yield connection
                finally:
                    await connection.execute(text("RESET statement_timeout"))
                    await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})


async def _days_before(connection: AsyncConnection, today: date) -> Sequence[date]:
    """The days that have a partition and are over, oldest first."""
    found: Sequence[date] = (await connection.execute(_DAYS, {"today": today})).scalars().all()
    return found


async def _cut_by_size(connection: AsyncConnection, model: str, most_bytes: int) -> float | None:
    """Up to when a model's traffic has to go so that the rest has at most so many bytes; None when all of it may stay.

    Day by day first: sorting all rows of a busy model would take memory for each of them.
    """
    room = most_bytes
    for day, size in (await connection.execute(_SIZE_BY_DAY, {"model": model})).all():
        if size > room:
            cut = (await connection.execute(_CUT_OF_DAY, {"model": model, "day": day, "room": room})).scalar_one()
            # A moment later, for `before` does not include it.
            return float(cut.timestamp()) + 1e-6
        room -= int(size)
    return None


_COMPARISON_BYTES = (
    "pg_column_size(request) + pg_column_size(response) + pg_column_size(shadow_responses) + pg_column_size(attributes)"
    " + pg_column_size(observations)"
)
_ANSWER_BYTES = "pg_column_size(live) + pg_column_size(responses) + pg_column_size(observations)"
_ROWS = f"""
    SELECT day, received_at, {_COMPARISON_BYTES} AS size
    FROM comparison JOIN epoch ON epoch.id = epoch_id JOIN experiment ON experiment.id = epoch.experiment_id
    WHERE experiment.model = :model
    UNION ALL
    SELECT day, received_at, {_ANSWER_BYTES} FROM answer WHERE model = :model
"""  # noqa: S608  constants
_ROWS_OF_ALL = f"""
    SELECT day, received_at, {_COMPARISON_BYTES} AS size FROM comparison
    UNION ALL SELECT day, received_at, {_ANSWER_BYTES} FROM answer
"""  # noqa: S608  constants
_SIZE_BY_DAY = text(f"SELECT day, sum(size) FROM ({_ROWS}) AS kept GROUP BY day ORDER BY day DESC")  # noqa: S608
_CUT_OF_DAY = text(
    f"""
    SELECT max(received_at) FROM (
        SELECT received_at, sum(size) OVER (ORDER BY received_at DESC) AS newer FROM ({_ROWS}) AS kept WHERE day = :day
    ) AS summed WHERE newer > :room
    """  # noqa: S608
)
_CUT_OF_TODAY = text(
    f"""
    SELECT COALESCE(min(received_at) FILTER (WHERE older >= :excess), max(received_at)) FROM (
        SELECT received_at, sum(size) OVER (ORDER BY received_at) AS older
        FROM ({_ROWS_OF_ALL}) AS kept WHERE day = :day
    ) AS summed
    """  # noqa: S608
)
_SIZE = text(
    "SELECT COALESCE(SUM(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits "
    "WHERE inhparent = ANY(SELECT CAST(name AS regclass) FROM unnest(CAST(:parents AS text[])) AS name)"
)
_DAYS = text(
    """
    SELECT DISTINCT to_date(right(child.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent IN (CAST('comparison' AS regclass), CAST('answer' AS regclass)) AND child.relname ~ '_[0-9]{8}$'
        AND to_date(right(child.relname, 8), 'YYYYMMDD') < :today
    ORDER BY day
    """
)
_NOW = text("SELECT clock_timestamp()")
_TODAY = text("SELECT CAST(now() AT TIME ZONE 'UTC' AS date)")
