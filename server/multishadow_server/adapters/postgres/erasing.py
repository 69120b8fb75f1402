"""Deleting stored traffic of a model: comparisons, answers, labels, and dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from multishadow_server.adapters.postgres import reclaiming
from multishadow_server.adapters.postgres.engine import cancelled_first, translated
from multishadow_server.adapters.postgres.records import moment
from multishadow_server.service.ports import Erased, Selection

_Bound = dict[str, Any]

_OF_MODEL = (
    "epoch_id IN (SELECT epoch.id FROM epoch JOIN experiment ON experiment.id = epoch.experiment_id "
    "WHERE experiment.model = :model)"
)
_SELECTED = (
    "(CAST(:before AS timestamptz) IS NULL OR received_at < :before)"
    " AND (CAST(:request_ids AS text[]) IS NULL OR request_id = ANY(CAST(:request_ids AS text[])))"
    " AND (CAST(:session_ids AS text[]) IS NULL OR session_id = ANY(CAST(:session_ids AS text[])))"
)
_WHICH = {"comparison": f"{_OF_MODEL} AND {_SELECTED}", "answer": f"model = :model AND {_SELECTED}"}
_LABELS = (
    "model = :model"
    " AND (CAST(:before AS timestamptz) IS NULL OR recorded_at < :before)"
    " AND (CAST(:label_ids AS text[]) IS NULL OR request_id = ANY(CAST(:label_ids AS text[])))"
)
_LETTERS = (
    "model = :model"
    " AND (CAST(:before AS timestamptz) IS NULL OR coalesce(received_at, created_at) < :before)"
    # A letter may be all that is stored of its request: no comparison tells whose it is.
    " AND (CAST(:label_ids AS text[]) IS NULL OR request_id = ANY(CAST(:label_ids AS text[]))"
    " OR session_id = ANY(CAST(:session_ids AS text[])))"
)
# Deleting a day's rows at a time takes no longer than a day's; deleting all of them might never end.
_PARTITIONS = text(
    "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
    "WHERE inhparent = CAST(:parent AS regclass) ORDER BY child.relname"
)
# Late captures go to yesterday's.
_WRITTEN_TO = text(
    "SELECT parent || to_char(now() AT TIME ZONE 'UTC' - make_interval(days => days), '_YYYYMMDD') "
    "FROM unnest(ARRAY['comparison', 'answer']) AS parent, unnest(ARRAY[0, 1]) AS days"
)
_NO_LIMIT = text("SET LOCAL statement_timeout = 0")


class Erasing:
    """Deletes and counts.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def erase(self, model: str, selection: Selection, *, rewrite_today: bool = True) -> Erased:
        """Delete rows, a day's in each transaction, and give their space back.

        Args:
            model: whose.
            selection: which.
            rewrite_today: give back the space of the days that workers write to, too, who wait meanwhile. Otherwise
                later rows use it.

        Raises:
            StoreUnavailable: what was deleted stays so.
        """
        bound = _bound(model, selection)
        deleted: dict[str, int] = {}
        touched: list[str] = []
        request_ids: set[str] = set()
        for parent, which in _WHICH.items():
            for partition in await self._partitions(parent):
                number, ids = await self._delete(partition, which, bound)
                deleted[parent] = deleted.get(parent, 0) + number
                request_ids |= ids
                touched += [partition] if number else []
        labels, _ = await self._delete("label", _LABELS, _with_labels(bound, request_ids))
        letters, _ = await self._delete("dead_letter", _LETTERS, _with_labels(bound, request_ids))
        written_to = set() if rewrite_today else set(await self._written_to())
        touched = [name for name in touched if name not in written_to]
        if rewrite_today:
            touched += [table for table, gone in (("label", labels), ("dead_letter", letters)) if gone]
        return Erased(
            comparisons=deleted.get("comparison", 0),
            answers=deleted.get("answer", 0),
            labels=labels,
            dead_letters=letters,
            bytes_freed=await reclaiming.reclaim(self._engine.url, touched),
        )

    async def count(self, model: str, selection: Selection) -> Erased:
        """What `erase` would delete. Raises StoreUnavailable."""
        bound = _bound(model, selection)
        found = {table: await self._count(table, which, bound) for table, which in _WHICH.items()}
        request_ids = set().union(*(ids for _, ids in found.values()))
        labels, _ = await self._count("label", _LABELS, _with_labels(bound, request_ids))
        letters, _ = await self._count("dead_letter", _LETTERS, _with_labels(bound, request_ids))
        return Erased(
            comparisons=found["comparison"][0], answers=found["answer"][0], labels=labels, dead_letters=letters
        )

    async def _delete(self, table: str, which: str, bound: _Bound) -> tuple[int, set[str]]:
        """How many rows are gone; and of a session's, the ids of their requests, by which its labels are found."""
        statement = f"DELETE FROM {table} WHERE {which}"  # noqa: S608  our own names
        if bound["session_ids"] is None:
            async with self._unhurried() as connection:
                return (await connection.execute(text(statement), bound)).rowcount, set()
        async with self._unhurried() as connection:
            gone = (await connection.execute(text(f"{statement} RETURNING request_id"), bound)).scalars().all()
        return len(gone), set(gone)

    async def _count(self, table: str, which: str, bound: _Bound) -> tuple[int, set[str]]:
        what = "count(*)" if bound["session_ids"] is None else "request_id"
        async with self._unhurried() as connection:
            found = await connection.execute(text(f"SELECT {what} FROM {table} WHERE {which}"), bound)  # noqa: S608  as above
            if bound["session_ids"] is None:
                return int(found.scalar_one()), set()
            ids = found.scalars().all()
        return len(ids), set(ids)

    async def _partitions(self, parent: str) -> Sequence[str]:
        async with self._unhurried() as connection:
            return (await connection.execute(_PARTITIONS, {"parent": parent})).scalars().all()

    async def _written_to(self) -> Sequence[str]:
        async with self._unhurried() as connection:
            return (await connection.execute(_WRITTEN_TO)).scalars().all()

    @asynccontextmanager
    async def _unhurried(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that takes as long as it takes."""
        with cancelled_first(), translated(self._engine.url, "erasing stored traffic"):
            async with self._engine.begin() as connection:
                await connection.execute(_NO_LIMIT)
                yield connection


def _bound(model: str, selection: Selection) -> _Bound:
    return {
        "model": model,
        "before": None if selection.before is None else moment(selection.before),
        "request_ids": None if selection.request_ids is None else list(selection.request_ids),
        "session_ids": None if selection.session_ids is None else list(selection.session_ids),
    }


def _with_labels(bound: _Bound, request_ids: set[str]) -> _Bound:
    """A label knows its request's id alone: those of a session are the ones whose requests were found."""
    of_session = bound["session_ids"] is not None
    return {**bound, "label_ids": sorted(request_ids) if of_session else bound["request_ids"]}
