"""Labels, the answers that they are held against, and what they come to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres import audit
from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.hash_key import PostgresHashKey
from multishadow_server.adapters.postgres.observations import add_rollups
from multishadow_server.adapters.postgres.records import epoch_of, moment, observation_of, storable_json, storable_text
from multishadow_server.adapters.postgres.tables import AnswerRow, EpochRow, ExperimentRow, LabelRow, LabelTallyRow
from multishadow_server.core import labels
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.labels import Answered, Mark, Marked
from multishadow_server.core.prediction import Json
from multishadow_server.core.redaction import Seal
from multishadow_server.core.rollup import Rollup
from multishadow_server.service.ports import LabelRecord, PredictionCodec


class PostgresLabels:
    """A LabelStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
        codec: reads the answers that were kept.
        hash_key: see `PostgresHashKey`.
    """

    def __init__(self, engine: AsyncEngine, codec: PredictionCodec, *, hash_key: str | None = None) -> None:
        self._engine = engine
        self._codec = codec
        self._hash_key = PostgresHashKey(engine, given=hash_key)

    async def seal(self) -> Seal:
        """See `PostgresHashKey.seal`."""
        return await self._hash_key.seal()

    @asynccontextmanager
    async def change(self, model: str) -> AsyncIterator[PostgresLabelChange]:
        """Change labels of one model; leaving the block commits, an exception in it undoes everything."""
        async with reaching(self._engine, "recording labels"), AsyncSession(self._engine) as session:
            yield PostgresLabelChange(session, model, self._codec)
            await session.commit()

    async def tally(self, model: str) -> Mapping[str, int]:
        """How many of a model's labels came to what, and how many wait for their request."""
        counted = select(LabelTallyRow.what, LabelTallyRow.n).where(LabelTallyRow.model == model)
        waiting = select(func.count()).select_from(LabelRow).where(col(LabelRow.model) == model, _waiting())
        async with reaching(self._engine, "reading labels"), AsyncSession(self._engine) as session:
            tally: dict[str, int] = dict((await session.exec(counted)).all())
            return {**tally, "waiting": (await session.exec(waiting)).one()}


class PostgresLabelChange:
    """A LabelChange; `PostgresLabels.change` begins and commits it."""

    def __init__(self, session: AsyncSession, model: str, codec: PredictionCodec) -> None:
        self._session = session
        self._model = model
        self._codec = codec

    async def claim(self, values: Mapping[str, Json], *, actor: str) -> Mapping[str, LabelRecord]:
        """Lock the labels of these requests, and return those that were there; the others wait from now on."""
        # In one order, so that two imports of the same requests do not wait for each other.
        named = [(storable_text(request_id), storable_json(values[request_id])) for request_id in sorted(values)]
        request_ids = [request_id for request_id, _ in named]
        columns = {
            "request_ids": json.dumps(request_ids),
            "values": json.dumps([json.dumps(value) for _, value in named]),
        }
        connection = await self._session.connection()
        added = await connection.execute(_CLAIM, {"model": self._model, "actor": actor, **columns})
        new = set(added.scalars())
        former = await self._locked(col(LabelRow.request_id).in_(request_ids))
        return {record.request_id: record for record in former if record.request_id not in new}

    async def arrived(self, *, most: int) -> Sequence[LabelRecord]:
        """Lock labels that still wait although their request's answers are there by now."""
        here = select(AnswerRow.id).where(
            AnswerRow.model == LabelRow.model, AnswerRow.request_id == LabelRow.request_id
        )
        return await self._locked(_waiting() & here.exists(), most=most)

    async def answers(self, request_ids: Collection[str], *, since: float) -> Mapping[str, Answered]:
        """The first answers that were kept of each of these requests, if it was received after `since`."""
        wanted = (
            select(AnswerRow, EpochRow, ExperimentRow.model, ExperimentRow.bucket_seconds)
            .join(EpochRow, col(EpochRow.id) == AnswerRow.epoch_id)
            .join(ExperimentRow, col(ExperimentRow.id) == EpochRow.experiment_id)
            .where(
                AnswerRow.model == self._model,
                col(AnswerRow.request_id).in_(list(request_ids)),
                col(AnswerRow.received_at) > moment(since),
            )
            .order_by(col(AnswerRow.id))
        )
        first: dict[str, Answered] = {}
        for row, epoch, model, seconds in await self._session.exec(wanted):
            if row.request_id not in first:
                of = epoch_of(epoch, model=model, bucket_seconds=seconds)
                first[row.request_id] = self._answered(row, of)
        return first

    async def put(self, records: Sequence[LabelRecord]) -> None:
        """Write what these labels are, and what they count for."""
        if records:
            connection = await self._session.connection()
            await connection.execute(_PUT, [_columns(record) for record in records])

    async def add(self, rollups: Mapping[tuple[int, int], Rollup]) -> None:
        """Add counts by (epoch id, start of the bucket in seconds since the Unix epoch); they may be negative."""
        await add_rollups(await self._session.connection(), rollups)

    async def count(self, tally: Mapping[str, int]) -> None:
        """Add to what the model's labels came to."""
        for what, n in sorted(tally.items()):
            added = insert(LabelTallyRow).values(model=self._model, what=what, n=n)
            total = col(LabelTallyRow.n) + added.excluded["n"]
            await self._session.exec(added.on_conflict_do_update(index_elements=["model", "what"], set_={"n": total}))

    async def audit(self, action: str, detail: Mapping[str, Any], *, actor: str) -> None:
        """Add a line to the audit log."""
        connection = await self._session.connection()
        await audit.append(connection, actor=actor, action=action, subject=self._model, detail=detail)

    async def forget(self, *, before: float) -> int:
        """Delete labels that were recorded before then; returns how many of them still waited."""
        old = delete(LabelRow).where(col(LabelRow.model) == self._model, col(LabelRow.recorded_at) < moment(before))
        gone = await self._session.exec(old.returning(col(LabelRow.epoch_id)))
        return sum(epoch_id is None for epoch_id in gone.scalars())

    async def _locked(self, which: ColumnElement[bool], *, most: int | None = None) -> list[LabelRecord]:
        wanted = (
            select(LabelRow)
            .where(col(LabelRow.model) == self._model, which)
            .order_by(col(LabelRow.request_id))
            .limit(most)
            # A sweep leaves alone what somebody else is about to count.
            .with_for_update(of=LabelRow, skip_locked=most is not None)
        )
        return [_record(row) for row in await self._session.exec(wanted)]

    def _answered(self, row: AnswerRow, epoch: Epoch) -> Answered:
        pairs = zip(row.observations, row.responses, strict=True)
        observations = [observation_of(record, response) for record, response in pairs]
        return Answered(
            epoch=epoch,
            request_id=row.request_id,
            received_at=row.received_at.timestamp(),
            live=self._codec.decode(epoch.comparator, row.live),
            observations=observations,
            answers=[
                self._codec.decode(epoch.comparator, each.response) if labels.answered(each) else None
                for each in observations
            ],
        )


def _waiting() -> ColumnElement[bool]:
    return col(LabelRow.epoch_id).is_(None)


# Columns travel as JSON, as those of rollups do; a statement with a row of parameters for each label takes longer to
# compile than to execute.
_CLAIM = text(
    """
    INSERT INTO label (model, request_id, value, recorded_at, recorded_by)
    SELECT :model, request_id, CAST(value AS jsonb), clock_timestamp(), :actor
    FROM ROWS FROM (json_array_elements_text(CAST(:request_ids AS json)),
                    json_array_elements_text(CAST(:values AS json))) AS label (request_id, value)
    ON CONFLICT DO NOTHING RETURNING request_id
    """
)
_PUT = (
    update(LabelRow)
    .where(col(LabelRow.model) == bindparam("of_model"), col(LabelRow.request_id) == bindparam("of_request"))
    .values(
        value=bindparam("value"),
        recorded_at=func.clock_timestamp(),
        recorded_by=bindparam("recorded_by"),
        epoch_id=bindparam("epoch_id"),
        bucket_start=bindparam("bucket_start"),
        marks=bindparam("marks"),
    )
)


def _columns(record: LabelRecord) -> dict[str, Any]:
    """The parameters of `_PUT`."""
    return {
        "of_model": record.model,
        "of_request": record.request_id,
        "value": storable_json(record.value),
        "recorded_by": record.recorded_by,
        "epoch_id": record.epoch_id,
        "bucket_start": None if record.bucket_start is None else moment(record.bucket_start),
        "marks": [asdict(each) for each in record.marks] or None,
    }


def _record(row: LabelRow) -> LabelRecord:
    return LabelRecord(
        model=row.model,
        request_id=row.request_id,
        value=row.value,
        recorded_by=row.recorded_by,
        epoch_id=row.epoch_id,
        bucket_start=None if row.bucket_start is None else int(row.bucket_start.timestamp()),
        marks=tuple(Marked(**{**each, "mark": Mark(each["mark"])}) for each in row.marks or ()),
    )
