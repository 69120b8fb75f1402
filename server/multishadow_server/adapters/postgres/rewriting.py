"""Holding stored traffic to other terms than it was stored by."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

from sqlalchemy import Label, Row, TextClause, literal_column, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select

from multishadow_server.adapters.payload_rewriting import PREDICT
from multishadow_server.adapters.postgres.engine import cancelled_first, translated
from multishadow_server.adapters.postgres.records import observation_of, observation_record, storable_json
from multishadow_server.adapters.postgres.tables import (
    AnswerRow,
    ComparisonRow,
    EpochRow,
    ExperimentRow,
    LabelRow,
    RollupRow,
)
from multishadow_server.core import redaction, segments
from multishadow_server.core.model import Model
from multishadow_server.core.observation import Observation
from multishadow_server.core.prediction import Json
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.redaction import Kind, Policy
from multishadow_server.core.rollup import Family

ROWS_AT_ONCE = 100
LABELS_AT_ONCE = 1_000

_Key = tuple[date, int]
_Values = dict[str, Any]
_Change = tuple[Row[Any], _Values]
_BEGIN: _Key = (date.min, 0)
_SEGMENTS = (Family.SEGMENT, Family.SEGMENT_DIVERGED, Family.SEGMENT_FAILED)


class Rewriting:
    """One run over everything that is stored of a model; what it has done stays done when it is interrupted.

    Args:
        engine: see `open_engine`.
        model: the model, with the terms to hold it to.
        policy: the same terms, with what they take.
    """

    def __init__(self, engine: AsyncEngine, model: Model, policy: Policy) -> None:
        self._engine = engine
        self._model = model
        self._policy = policy
        self._counts: Counter[str] = Counter()
        self.touched: set[str] = set()

    async def run(self) -> Counter[str]:
        """Do it; returns counts by the fields of `Rewritten`. Raises StoreUnavailable."""
        await self._all(self._comparisons)
        if self._policy.terms.payloads.readable:
            await self._all(self._answers)
            await self._delete_answers(_DELETE_SEALED)
            await self._labels()
        else:
            await self._delete_answers(_DELETE_ANSWERS)
        await self._delete_letters()
        await self._levels()
        return self._counts

    async def _all(self, some: Callable[[AsyncConnection, _Key], Awaitable[_Key | None]]) -> None:
        after: _Key | None = _BEGIN
        while after is not None:
            async with self._transaction() as connection:
                after = await some(connection, after)

    async def _comparisons(self, connection: AsyncConnection, after: _Key) -> _Key | None:
        place = (col(ComparisonRow.day), col(ComparisonRow.id))
        wanted = (
            select(*ComparisonRow.__table__.columns, _TABLE)  # type: ignore[call-overload, attr-defined]  # all columns
            .where(col(ComparisonRow.epoch_id).in_(self._epochs()), tuple_(*place) > after)
            .order_by(*place)
            .limit(ROWS_AT_ONCE)
            .with_for_update(of=ComparisonRow)
        )
        rows = (await connection.execute(wanted)).all()
        changed = await asyncio.to_thread(self._changed, rows, self._comparison)
        for row, values in changed:
            await connection.execute(
                update(ComparisonRow)
                .where(col(ComparisonRow.day) == row.day, col(ComparisonRow.id) == row.id)
                .values(values)
            )
        return self._note(rows, changed)

    async def _answers(self, connection: AsyncConnection, after: _Key) -> _Key | None:
        place = (col(AnswerRow.day), col(AnswerRow.id))
        wanted = (
            select(*AnswerRow.__table__.columns, _ANSWER_TABLE)  # type: ignore[call-overload, attr-defined]  # all columns
            .where(AnswerRow.model == self._model.name, tuple_(*place) > after)
            .order_by(*place)
            .limit(ROWS_AT_ONCE)
            .with_for_update(of=AnswerRow)
        )
        rows = (await connection.execute(wanted)).all()
        changed = await asyncio.to_thread(self._changed, rows, self._answer)
        for row, values in changed:
            await connection.execute(
                update(AnswerRow).where(col(AnswerRow.day) == row.day, col(AnswerRow.id) == row.id).values(values)
            )
        return self._note(rows, changed)

    def _changed(self, rows: Sequence[Row[Any]], rewritten: Callable[[Row[Any]], _Values]) -> list[_Change]:
        changed: list[_Change] = []
        for row in rows:
            # What is stored in a stricter form cannot be had back.
            if Payloads(row.payloads).strictness > self._policy.terms.payloads.strictness:
                continue
            values = rewritten(row)
            if any(getattr(row, name) != value for name, value in values.items()):
                changed.append((row, values))
        return changed

    def _note(self, rows: Sequence[Row[Any]], changed: Sequence[_Change]) -> _Key | None:
        self._counts["examined"] += len(rows)
        self._counts["rewritten"] += len(changed)
        self.touched.update(row.stored_in for row, _ in changed)
        return (rows[-1].day, rows[-1].id) if len(rows) == ROWS_AT_ONCE else None

    def _comparison(self, row: Row[Any]) -> _Values:
        policy = self._policy
        readable = policy.terms.payloads.readable
        observations = self._observations(row.observations, row.shadow_responses, row.method)
        attributes = policy.redactor.object(row.attributes, "attributes") if readable and row.attributes else {}
        return {
            **self._ids(row),
            "attributes": storable_json(attributes),
            "request": redaction.redact_payload(policy, Kind.REQUEST, row.method, row.request),
            "response": redaction.redact_payload(policy, Kind.RESPONSE, row.method, row.response),
            "status_message": policy.redactor.detail(row.status_message) if readable else "",
            "observations": [observation_record(seen) for seen in observations],
            "shadow_responses": [seen.response for seen in observations],
            "payloads": policy.terms.payloads.value,
        }

    def _answer(self, row: Row[Any]) -> _Values:
        observations = self._observations(row.observations, row.responses, PREDICT)
        return {
            **self._ids(row),
            "live": redaction.redact_payload(self._policy, Kind.RESPONSE, PREDICT, row.live),
            "observations": [observation_record(seen) for seen in observations],
            "responses": [seen.response for seen in observations],
            "payloads": self._policy.terms.payloads.value,
        }

    def _ids(self, row: Row[Any]) -> _Values:
        terms, seal = self._policy.terms, self._policy.seal
        return {
            "request_id": redaction.stored_request_id(terms, seal, row.request_id),
            "session_id": redaction.stored_session_id(terms, seal, row.session_id),
        }

    def _observations(
        self, records: Iterable[dict[str, Any]], responses: Iterable[bytes], method: str
    ) -> Sequence[Observation]:
        return [
            redaction.redact_observation(self._policy, observation_of(record, bytes(response)), method=method)
            for record, response in zip(records, responses, strict=True)
        ]

    async def _labels(self) -> None:
        after = ""
        terms, seal = self._policy.terms, self._policy.seal
        while True:
            async with self._transaction() as connection:
                wanted = (
                    select(LabelRow.request_id, LabelRow.value)
                    .where(LabelRow.model == self._model.name, col(LabelRow.request_id) > after)
                    .order_by(col(LabelRow.request_id))
                    .limit(LABELS_AT_ONCE)
                    .with_for_update()
                )
                rows = (await connection.execute(wanted)).all()
                for request_id, value in rows:
                    stored = redaction.stored_request_id(terms, seal, request_id)
                    redacted = storable_json(redaction.redact_label(terms, value))
                    if (stored, redacted) != (request_id, value):
                        await _put_label(connection, self._model.name, request_id, stored, redacted)
                        self._counts["labels_rewritten"] += 1
                        self.touched.add("label")
            if len(rows) < LABELS_AT_ONCE:
                return
            after = rows[-1][0]

    async def _delete_answers(self, statement: TextClause) -> None:
        """Those that no label can be held against."""
        async with self._transaction() as connection:
            gone = (await connection.execute(statement, {"model": self._model.name})).scalars().all()
        self._counts["deleted"] += len(gone)
        self.touched.update(gone)

    async def _delete_letters(self) -> None:
        """Dead letters are kept as they came, to be sent again; what may not be kept so is of no use to them."""
        if self._policy.terms.payloads is Payloads.FULL:
            return
        async with self._transaction() as connection:
            gone = await connection.execute(_DELETE_LETTERS, {"model": self._model.name})
        self._counts["deleted"] += gone.rowcount
        self.touched.update({"dead_letter"} if gone.rowcount else ())

    async def _levels(self) -> None:
        """Count levels that hold what is hidden together, under what stands for it."""
        async with self._transaction() as connection:
            epochs = (await connection.execute(self._epochs())).scalars().all()
        for epoch_id in epochs:
            async with self._transaction() as connection:
                wanted = (
                    select(RollupRow.level)
                    .where(RollupRow.epoch_id == epoch_id, col(RollupRow.family).in_(_SEGMENTS))
                    .distinct()
                )
                for level in (await connection.execute(wanted)).scalars().all():
                    await self._merge(connection, epoch_id, level)

    async def _merge(self, connection: AsyncConnection, epoch_id: int, level: str) -> None:
        named, prefix = self._model.segments, segments.ATTRIBUTES
        merged = redaction.segment_level(self._policy.terms, level, named=named, prefix=prefix)
        if merged == level:
            return
        bound = {"epoch_id": epoch_id, "families": list(_SEGMENTS), "level": level}
        if merged is None:
            await connection.execute(_FORGET_LEVEL, bound)
        else:
            await connection.execute(_MERGE_LEVEL, {**bound, "merged": merged})
        self._counts["levels_merged"] += 1
        self.touched.add("rollup")

    def _epochs(self) -> Any:  # noqa: ANN401  a statement, whose type says no more
        return (
            select(EpochRow.id)
            .join(ExperimentRow, col(ExperimentRow.id) == EpochRow.experiment_id)
            .where(ExperimentRow.model == self._model.name)
        )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """One of many; each is short, so none has a limit of its own."""
        with cancelled_first(), translated(self._engine.url, "holding stored traffic to other terms"):
            async with self._engine.begin() as connection:
                yield connection


async def _put_label(connection: AsyncConnection, model: str, former: str, request_id: str, value: Json) -> None:
    """Write a label under its stored id; one that is there already under that id is the newer one."""
    bound = {"model": model, "former": former, "request_id": request_id, "value": json.dumps(value)}
    if (await connection.execute(_PUT_LABEL, bound)).rowcount == 0:
        await connection.execute(_DELETE_LABEL, bound)


_TABLE: Label[str] = literal_column("comparison.tableoid::regclass::text").label("stored_in")
_ANSWER_TABLE: Label[str] = literal_column("answer.tableoid::regclass::text").label("stored_in")
_PUT_LABEL = text(
    """
    UPDATE label SET request_id = :request_id, value = CAST(:value AS jsonb)
    WHERE model = :model AND request_id = :former AND (:former = :request_id OR NOT EXISTS (
        SELECT FROM label AS other WHERE other.model = :model AND other.request_id = :request_id))
    """
)
_DELETE_LABEL = text("DELETE FROM label WHERE model = :model AND request_id = :former")
_DELETE_LETTERS = text("DELETE FROM dead_letter WHERE model = :model")
_DELETE_ANSWERS = text("DELETE FROM answer WHERE model = :model RETURNING tableoid::regclass::text")
# Those of which something could not be redacted, and is a hash now; see `redaction.is_sealed`.
_DELETE_SEALED = text(
    f"""
    DELETE FROM answer
    WHERE model = :model AND payloads <> 'full' AND EXISTS (
        SELECT FROM unnest(live || responses) AS each
        WHERE octet_length(each) = {redaction.SEALED_BYTES}
            AND substring(each FOR {len(redaction.SEALED)}) = CAST('{redaction.SEALED}' AS bytea))
    RETURNING tableoid::regclass::text
    """  # noqa: S608  constants
)
_FORGET_LEVEL = text("DELETE FROM rollup WHERE epoch_id = :epoch_id AND family = ANY(:families) AND level = :level")
_MERGE_LEVEL = text(
    """
    WITH moved AS (
        DELETE FROM rollup WHERE epoch_id = :epoch_id AND family = ANY(:families) AND level = :level
        RETURNING epoch_id, bucket_start, family, subject, n
    )
    INSERT INTO rollup AS present (epoch_id, bucket_start, family, subject, level, n)
    SELECT epoch_id, bucket_start, family, subject, :merged, n FROM moved
    ON CONFLICT (epoch_id, bucket_start, family, subject, level) DO UPDATE SET n = present.n + excluded.n
    """
)
