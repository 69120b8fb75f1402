"""Deleting stored traffic of a model: comparisons, answers, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from multishadow_server.adapters.postgres import reclaiming
from multishadow_server.adapters.postgres.engine import cancelled_first, translated
from multishadow_server.adapters.postgres.records import moment
from multishadow_server.service.ports import Erased, Selection

_OF_MODEL = (
    "epoch_id IN (SELECT epoch.id FROM epoch JOIN experiment ON experiment.id = epoch.experiment_id "
    "WHERE experiment.model = :model)"
)
_SELECTED = (
    "(CAST(:before AS timestamptz) IS NULL OR received_at < :before)"
    " AND (CAST(:request_ids AS text[]) IS NULL OR request_id = ANY(CAST(:request_ids AS text[])))"
    " AND (CAST(:session_ids AS text[]) IS NULL OR session_id = ANY(CAST(:session_ids AS text[])))"
)
_LABELS = (
    "label WHERE model = :model"
    " AND (CAST(:before AS timestamptz) IS NULL OR recorded_at < :before)"
    " AND (CAST(:label_ids AS text[]) IS NULL OR request_id = ANY(CAST(:label_ids AS text[])))"
)
# Deletes rows of a day at a time take no longer than a day's; the whole table's might never end.
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
        for parent, kind in (("comparison", _comparisons), ("answer", _answers)):
            for partition in await self._partitions(parent):
                gone = await self._run(kind(f"DELETE FROM {partition}", returning=True), bound)  # noqa: S608  our own name
                deleted[parent] = deleted.get(parent, 0) + len(gone)
                request_ids.update(gone)
                touched += [partition] if gone else []
        labels = len(
            await self._run(_labels("DELETE FROM", returning=True), _with_labels(bound, selection, request_ids))
        )
        written_to = set() if rewrite_today else set(await self._run(_WRITTEN_TO, {}))
        touched = [name for name in touched if name not in written_to] + (["label"] if labels and rewrite_today else [])
        freed = await reclaiming.reclaim(self._engine.url, touched)
        return Erased(
            comparisons=deleted.get("comparison", 0),
            answers=deleted.get("answer", 0),
            labels=labels,
            bytes_freed=freed,
        )

    async def count(self, model: str, selection: Selection) -> Erased:
        """What `erase` would delete. Raises StoreUnavailable."""
        bound = _bound(model, selection)
        comparisons = await self._run(_comparisons("SELECT request_id FROM comparison"), bound)
        answers = await self._run(_answers("SELECT request_id FROM answer"), bound)
        named = _with_labels(bound, selection, {*comparisons, *answers})
        labels = await self._run(_labels("SELECT request_id FROM"), named)
        return Erased(comparisons=len(comparisons), answers=len(answers), labels=len(labels))

    async def _partitions(self, parent: str) -> Sequence[str]:
        with cancelled_first(), translated(self._engine.url, "looking for stored traffic"):
            async with self._engine.connect() as connection:
                return (await connection.execute(_PARTITIONS, {"parent": parent})).scalars().all()

    async def _run(self, statement: TextClause, bound: dict[str, Any]) -> Sequence[str]:
        with cancelled_first(), translated(self._engine.url, "erasing stored traffic"):
            async with self._engine.begin() as connection:
                return await _unhurried(connection, statement, bound)


async def _unhurried(connection: AsyncConnection, statement: TextClause, bound: dict[str, Any]) -> Sequence[str]:
    await connection.execute(_NO_LIMIT)
    return (await connection.execute(statement, bound)).scalars().all()


def _comparisons(what: str, *, returning: bool = False) -> TextClause:
    return text(f"{what} WHERE {_OF_MODEL} AND {_SELECTED}{_returning(returning)}")


def _answers(what: str, *, returning: bool = False) -> TextClause:
    return text(f"{what} WHERE model = :model AND {_SELECTED}{_returning(returning)}")


def _labels(what: str, *, returning: bool = False) -> TextClause:
    return text(f"{what} {_LABELS}{_returning(returning)}")


def _returning(wanted: bool) -> str:  # noqa: FBT001  one word of a statement
    return " RETURNING request_id" if wanted else ""


def _bound(model: str, selection: Selection) -> dict[str, Any]:
    return {
        "model": model,
        "before": None if selection.before is None else moment(selection.before),
        "request_ids": None if selection.request_ids is None else list(selection.request_ids),
        "session_ids": None if selection.session_ids is None else list(selection.session_ids),
    }


def _with_labels(bound: dict[str, Any], selection: Selection, request_ids: set[str]) -> dict[str, Any]:
    """A label knows its request's id alone: those of a session are the ones whose requests were found."""
    if selection.session_ids is not None:
        return {**bound, "label_ids": sorted(request_ids)}
    return {**bound, "label_ids": bound["request_ids"]}
