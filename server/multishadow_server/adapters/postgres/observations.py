"""Where workers put what they saw: one transaction per micro-batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection as DriverConnection
from psycopg.types.json import Jsonb
from sqlalchemy import Executable, delete, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.dead_letters import write_letters
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, observation_record, storable_json, storable_text
from multishadow_server.adapters.postgres.sessions import (
    read_flag_changes,
    read_open_sessions,
    write_open_sessions,
)
from multishadow_server.adapters.postgres.tables import PartitionOffsetRow, RollupRow, SeenInputsRow
from multishadow_server.core.assignments import FlagChange
from multishadow_server.core.duplicates import Chunk
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.sessions import SessionChanges
from multishadow_server.errors import LeaseLost
from multishadow_server.service.ports import Flush, KeptAnswers, StoredComparison


class PostgresObservations:
    """An ObservationStore.

    Args:
        engine: see `open_engine`.
        counters: counts dead letters that found no room.
    """

    def __init__(self, engine: AsyncEngine, counters: Counter[str] | None = None) -> None:
        self._engine = engine
        self._counters = Counter() if counters is None else counters

    async def offset(self, log_id: str, partition: int) -> int:
        """Sequence of the last message whose effect is committed; 0 when there is none. Raises StoreUnavailable."""
        wanted = select(PartitionOffsetRow.offset).where(
            PartitionOffsetRow.log_id == log_id, PartitionOffsetRow.partition == partition
        )
        async with reaching(self._engine, "reading an offset"), AsyncSession(self._engine) as session:
            return (await session.exec(wanted)).one_or_none() or 0

    async def segment_levels(self, epoch_id: int) -> Sequence[str]:
        """The levels of segments that are counted in an epoch. Raises StoreUnavailable."""
        wanted = (
            select(RollupRow.level).where(RollupRow.epoch_id == epoch_id, RollupRow.family == Family.SEGMENT).distinct()
        )
        async with reaching(self._engine, "reading segments"), AsyncSession(self._engine) as session:
            return (await session.exec(wanted)).all()

    async def seen_inputs(self, log_id: str, partition: int) -> Sequence[Chunk]:
        """A partition's chunks of seen inputs, by number. Raises StoreUnavailable."""
        wanted = (
            select(SeenInputsRow.chunk, SeenInputsRow.keys)
            .where(SeenInputsRow.log_id == log_id, SeenInputsRow.partition == partition)
            .order_by(col(SeenInputsRow.chunk))
        )
        async with reaching(self._engine, "reading seen inputs"), AsyncSession(self._engine) as session:
            return [Chunk(number=number, keys=keys) for number, keys in await session.exec(wanted)]

    async def open_sessions(self, log_id: str, partition: int) -> SessionChanges:
        """A partition's open sessions, and the log's time, as they were committed. Raises StoreUnavailable."""
        return await read_open_sessions(self._engine, log_id, partition)

    async def flag_changes(self, keys: Sequence[str], *, since: float) -> Sequence[FlagChange]:
        """What flags said from a time on, and for each the last change before it. Raises StoreUnavailable."""
        return await read_flag_changes(self._engine, keys, since=since)

    async def commit(self, flush: Flush) -> None:
        """Add the rollups, store samples, seen inputs and open sessions, and move the offset, all or nothing.

        Its cost follows the number of distinct counts and samples, not the number of captures behind them.

        Raises:
            LeaseLost: the offset is not `previous_offset`: somebody else commits to this partition.
            StoreUnavailable: the outcome is unknown; read `offset` again.
        """
        async with reaching(self._engine, "committing a micro-batch"), self._engine.begin() as connection:
            # The offset first: its row's lock keeps a second owner out before anything is written.
            await _move_offset(connection, flush)
            await add_rollups(connection, flush.rollups)
            await _copy(connection, _COPY_COMPARISONS, map(_comparison_row, flush.comparisons))
            await _copy(connection, _COPY_ANSWERS, map(_answer_row, flush.answers))
            await _remember(connection, flush)
            await write_open_sessions(connection, flush.log_id, flush.partition, flush.sessions)
            refused = await write_letters(connection, flush.dead_letters)
        self._counters["dead_letters.no_room"] += refused


async def _move_offset(connection: AsyncConnection, flush: Flush) -> None:
    moved = await connection.execute(_first_offset(flush) if flush.previous_offset == 0 else _next_offset(flush))
    if moved.first() is None:
        raise LeaseLost(
            f"partition {flush.partition} of the log {flush.log_id} is not at message {flush.previous_offset} any "
            "more: another worker commits to it; read its offset again"
        )


def _first_offset(flush: Flush) -> Executable:
    first = insert(PartitionOffsetRow).values(log_id=flush.log_id, partition=flush.partition, offset=flush.offset)
    return first.on_conflict_do_nothing().returning(col(PartitionOffsetRow.offset))


def _next_offset(flush: Flush) -> Executable:
    return (
        update(PartitionOffsetRow)
        .where(
            col(PartitionOffsetRow.log_id) == flush.log_id,
            col(PartitionOffsetRow.partition) == flush.partition,
            col(PartitionOffsetRow.offset) == flush.previous_offset,
        )
        .values(offset=flush.offset)
        .returning(col(PartitionOffsetRow.offset))
    )


async def add_rollups(connection: AsyncConnection, rollups: Mapping[tuple[int, int], Rollup]) -> None:
    """Add counts by (epoch id, start of the bucket in seconds since the Unix epoch), within a transaction."""
    # Sorted, because workers of different partitions add to the same rows: who locks in one order never deadlocks.
    for (epoch_id, bucket_start), rollup in sorted(rollups.items()):
        # Families are plain text here: comparing enum members would cost more than all the rest.
        additions = sorted(
            (str(family), subject, level, n) for (family, subject, level), n in rollup.cells.items() if n
        )
        if additions:
            columns = map(json.dumps, zip(*additions, strict=True))
            named = dict(zip(("families", "subjects", "levels", "counts"), columns, strict=True))
            await connection.execute(_ADD, {"epoch_id": epoch_id, "bucket_start": bucket_start, **named})


# One statement per bucket, however many counts. Columns travel as JSON: the driver writes an array element by element,
# in Python, which took ten times the processor time of everything else in a flush.
_ADD = text(
    """
    INSERT INTO rollup AS present (epoch_id, bucket_start, family, subject, level, n)
    SELECT :epoch_id, to_timestamp(:bucket_start), family, subject, level, CAST(n AS numeric)
    FROM ROWS FROM (json_array_elements_text(CAST(:families AS json)),
                    json_array_elements_text(CAST(:subjects AS json)),
                    json_array_elements_text(CAST(:levels AS json)),
                    json_array_elements_text(CAST(:counts AS json))) AS addition (family, subject, level, n)
    ON CONFLICT (epoch_id, bucket_start, family, subject, level) DO UPDATE SET n = present.n + excluded.n
    """
)


async def _remember(connection: AsyncConnection, flush: Flush) -> None:
    owner = {"log_id": flush.log_id, "partition": flush.partition}
    for chunk in flush.seen:
        added = insert(SeenInputsRow).values(**owner, chunk=chunk.number, keys=chunk.keys)
        together = col(SeenInputsRow.keys).op("||")(added.excluded["keys"])
        await connection.execute(
            added.on_conflict_do_update(index_elements=["log_id", "partition", "chunk"], set_={"keys": together})
        )
    if flush.forgotten:
        await connection.execute(
            delete(SeenInputsRow).where(
                col(SeenInputsRow.log_id) == flush.log_id,
                col(SeenInputsRow.partition) == flush.partition,
                col(SeenInputsRow.chunk) <= flush.forgotten,
            )
        )


async def _copy(connection: AsyncConnection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    rows = list(rows)
    if not rows:
        return
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, DriverConnection)
    async with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            await copy.write_row(row)


_COPY_COMPARISONS = (
    "COPY comparison (day, epoch_id, request_id, session_id, method, revision, received_at, attributes, request, "
    "status_code, status_message, response, live_latency, observations, shadow_responses, kept_because, payloads) "
    "FROM STDIN"
)
_COPY_ANSWERS = (
    "COPY answer (day, model, request_id, epoch_id, received_at, live, observations, responses, session_id, payloads) "
    "FROM STDIN"
)


def _comparison_row(comparison: StoredComparison) -> Sequence[Any]:
    """The values of `_COPY_COMPARISONS`' columns."""
    capture = comparison.capture
    received_at = moment(capture.received_at)
    return (
        received_at.date(),
        comparison.epoch_id,
        storable_text(capture.request_id),
        storable_text(capture.session_id),
        capture.method,
        capture.revision,
        received_at,
        Jsonb(storable_json(dict(capture.attributes))),
        capture.request,
        capture.status_code,
        storable_text(capture.status_message),
        capture.response,
        capture.live_latency,
        Jsonb([observation_record(observation) for observation in comparison.observations]),
        [observation.response for observation in comparison.observations],
        comparison.kept_because,
        comparison.payloads,
    )


def _answer_row(kept: KeptAnswers) -> Sequence[Any]:
    """The values of `_COPY_ANSWERS`' columns."""
    capture = kept.capture
    received_at = moment(capture.received_at)
    return (
        received_at.date(),
        capture.model,
        storable_text(capture.request_id),
        kept.epoch_id,
        received_at,
        capture.response,
        Jsonb([observation_record(observation) for observation in kept.observations]),
        [observation.response for observation in kept.observations],
        storable_text(capture.session_id),
        kept.payloads,
    )
