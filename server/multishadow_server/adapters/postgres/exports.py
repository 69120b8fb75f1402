"""Stored answers in PostgreSQL: listed, and read page by page for an export. Every page begins at a key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, RowMapping, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import epoch_of, moment, observation_of, storable_text
from multishadow_server.adapters.postgres.tables import EpochRow, ExperimentRow
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.keeping import Kept
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.reviews import Review, ReviewVerdict
from multishadow_server.service.ports import AnswerFilter, AnswerOrder, AnswerPlace, ExportPage, StoredAnswer

PAGE_ROWS = 1_000
PAGE_BYTES = 8 * 1024 * 1024
"""A page holds no more than this, or one answer that is larger."""
SCANNED_ROWS = 5_000
"""Comparisons that one page looks through: a filter that lets nearly nothing pass must not run into a time limit."""

REACHES = (300, 3_000)
"""So many comparisons beyond its place a list by value looks at, then so many, before it sorts all answers there are. A
later page looks at those of the earlier ones, too: any of them may hold another answer that belongs to it."""

_AFTER_ALL = 1 << 30
_BEGIN = AnswerPlace(date.min, 0, 0)


class PostgresAnswers:
    """An AnswerStore. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
        page_rows, page_bytes, scanned_rows: bounds of a page of an export.
        reaches: how many comparisons a list by value looks at first, and how many then.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        page_rows: int = PAGE_ROWS,
        page_bytes: int = PAGE_BYTES,
        scanned_rows: int = SCANNED_ROWS,
        reaches: Sequence[int] = REACHES,
    ) -> None:
        self._engine = engine
        self._page_rows = page_rows
        self._page_bytes = page_bytes
        self._scanned_rows = scanned_rows
        self._reaches = reaches

    async def listed(
        self, which: AnswerFilter, order: AnswerOrder, *, after: AnswerPlace | None, most: int
    ) -> Sequence[StoredAnswer]:
        """At most so many after that place."""
        async with reaching(self._engine, "listing stored answers"), self._engine.connect() as connection:
            for reach in self._reaches if order in _EXTREMES else ():
                edge = await _edge(connection, which, order, after, reach)
                if edge is None:
                    break
                rows = await _ordered(connection, which, order, after=after, most=most, edge=edge)
                if len(rows) == most:
                    return [_answer(row) for row in rows]
            rows = await _ordered(connection, which, order, after=after, most=most)
        return [_answer(row) for row in rows]

    async def of_comparison(self, comparison_id: int) -> Sequence[StoredAnswer]:
        """The answers of one comparison."""
        statement = text(f"SELECT {_WHOLE} {_FROM} WHERE kept.id = :id ORDER BY seen.place")
        async with reaching(self._engine, "reading stored answers"), self._engine.connect() as connection:
            rows = (await connection.execute(statement, {"id": comparison_id})).mappings().all()
        return [_answer(row) for row in rows]

    async def page(self, which: AnswerFilter, *, after: AnswerPlace | None) -> ExportPage:
        """Some with their payloads."""
        begin = after or _BEGIN
        async with reaching(self._engine, "exporting stored answers"), self._engine.connect() as connection:
            last, whole = await self._scanned(connection, which, begin)
            if last is None:
                return ExportPage(answers=[], next_place=None)
            conditions, bound = _conditions(which)
            conditions.append("(kept.day, kept.id) BETWEEN (:day, :id) AND (:last_day, :last_id)")
            conditions.append("(kept.day, kept.id, seen.place) > (:day, :id, :place)")
            bound |= begin._asdict() | {"last_day": last.day, "last_id": last.id}
            bound |= {"most": self._page_rows, "bytes": self._page_bytes}
            statement = _statement(_PAGE.replace("{conditions}", " AND ".join(conditions)))
            rows = (await connection.execute(statement, bound)).mappings().all()
        answers = [_answer(row) for row in rows]
        # More were found than fit into the page, or than were looked for.
        if answers and (len(rows) < rows[0]["found"] or rows[0]["found"] == self._page_rows):
            return ExportPage(answers=answers, next_place=answers[-1].place)
        return ExportPage(answers=answers, next_place=None if whole else last)

    async def _scanned(
        self, connection: AsyncConnection, which: AnswerFilter, begin: AnswerPlace
    ) -> tuple[AnswerPlace | None, bool]:
        """The last comparison that this page looks through, and whether it is the last of all."""
        days, bound = _days(which)
        # One that was begun is looked at again; one that is done would be looked at for ever.
        done = begin.place == _AFTER_ALL
        statement = _statement(_SCANNED.replace("{days}", days).replace("{beyond}", ">" if done else ">="))
        bound |= {"epochs": list(which.epochs), "day": begin.day, "id": begin.id, "scanned": self._scanned_rows}
        row = (await connection.execute(statement, bound)).one_or_none()
        if row is None:
            return None, True
        return AnswerPlace(row.day, row.id, _AFTER_ALL), row.n < self._scanned_rows

    async def epochs(self, epoch_ids: Sequence[int]) -> Sequence[Epoch]:
        """The epochs of these ids."""
        wanted = (
            select(EpochRow, ExperimentRow.model, ExperimentRow.bucket_seconds)
            .join(ExperimentRow, col(ExperimentRow.id) == EpochRow.experiment_id)
            .where(col(EpochRow.id).in_(epoch_ids))
        )
        async with reaching(self._engine, "reading epochs"), AsyncSession(self._engine) as session:
            return [
                epoch_of(row, model=model, bucket_seconds=seconds) for row, model, seconds in await session.exec(wanted)
            ]


class _Edge(NamedTuple):
    """A place in the index of an order: what lies on this side of it can be had without looking at the rest."""

    edge: float
    edge_id: int


async def _ordered(
    connection: AsyncConnection,
    which: AnswerFilter,
    order: AnswerOrder,
    *,
    after: AnswerPlace | None,
    most: int,
    edge: _Edge | None = None,
) -> Sequence[RowMapping]:
    """The first answers after a place; with an edge, only those on its nearer side."""
    conditions, bound = _conditions(which)
    value, beyond, sorting = _ORDERS[order]
    if order in _EXTREMES:
        conditions.append(f"{value} IS NOT NULL")
    if after is not None:
        conditions.append(beyond)
        bound |= after._asdict()
    if edge is not None:
        extreme, before, _ = _EXTREMES[order]
        conditions += (f"({each}, kept.id) {before} (:edge, :edge_id)" for each in (value, extreme))
        conditions.append("kept.kept_because = ANY(CAST(:kinds AS text[]))")
        bound |= edge._asdict() | {"kinds": [*Kept]}
    statement = _statement(
        f"SELECT {_LINE}, {value} AS value {_FROM} WHERE {' AND '.join(conditions)} ORDER BY {sorting} LIMIT :most"
    )
    return (await connection.execute(statement, bound | {"most": most})).mappings().all()


async def _edge(
    connection: AsyncConnection, which: AnswerFilter, order: AnswerOrder, after: AnswerPlace | None, reach: int
) -> _Edge | None:
    """An edge with at least so many comparisons between it and the place; None when there are no more than that.

    The index knows a comparison by its most extreme answer: whatever answer lies before the edge, its comparison does.
    """
    extreme, _, direction = _EXTREMES[order]
    beyond = f"AND ({extreme}, kept.id) {'<' if direction == 'DESC' else '>'} (:value, :id)" if after else ""
    statement = _statement(
        "SELECT reached.value, reached.id FROM unnest(:epochs) AS wanted (epoch_id) "  # noqa: S608  made of constants
        "CROSS JOIN unnest(CAST(:kinds AS text[])) AS kind (kept_because) CROSS JOIN LATERAL ("
        f"SELECT {extreme} AS value, kept.id FROM comparison AS kept WHERE kept.epoch_id = wanted.epoch_id "
        # Timeouts come first among the slowest, and have no latency: they would be all that is looked at.
        f"AND kept.kept_because = kind.kept_because AND {extreme} < 'Infinity' {beyond} "
        f"ORDER BY {extreme} {direction}, kept.id {direction} LIMIT :reach + 1) AS reached "
        f"ORDER BY value {direction}, id {direction} OFFSET :reach LIMIT 1"
    )
    bound: dict[str, Any] = {"epochs": list(which.epochs), "kinds": [*Kept], "reach": reach}
    if after is not None:
        bound |= {"value": after.value, "id": after.id}
    found = (await connection.execute(statement, bound)).one_or_none()
    return None if found is None else _Edge(*found)


def _statement(sql: str) -> TextClause:
    statement = text(sql)
    if ":epochs" in sql:
        return statement.bindparams(bindparam("epochs", type_=ARRAY(BigInteger())))
    return statement


def _days(which: AnswerFilter) -> tuple[str, dict[str, Any]]:
    """The days that answers can be of: whole partitions are left out by them."""
    conditions, bound = "", {}
    if which.since is not None:
        conditions += " AND kept.day >= :since_day"
        bound["since_day"] = moment(which.since).date()
    if which.until is not None:
        conditions += " AND kept.day <= :until_day"
        bound["until_day"] = moment(which.until).date()
    return conditions, bound


def _conditions(which: AnswerFilter) -> tuple[list[str], dict[str, Any]]:
    days, bound = _days(which)
    conditions = [f"kept.epoch_id = ANY(:epochs){days}"]
    bound["epochs"] = list(which.epochs)
    if which.since is not None:
        conditions.append("kept.received_at >= :since")
        bound["since"] = moment(which.since)
    if which.until is not None:
        conditions.append("kept.received_at < :until")
        bound["until"] = moment(which.until)
    for name, value, condition in (
        ("version", which.version or None, "seen.record ->> 'version' = :version"),
        ("outcomes", list(which.outcomes) or None, "seen.record ->> 'outcome' = ANY(CAST(:outcomes AS text[]))"),
        ("least", which.least_similarity, f"{_SIMILARITY} >= :least"),
        ("most_similar", which.most_similarity, f"{_SIMILARITY} <= :most_similar"),
    ):
        if value is not None:
            conditions.append(condition)
            bound[name] = value
    if which.reviewed is not None:
        conditions.append(f"review.version IS {'NOT NULL' if which.reviewed else 'NULL'}")
    if which.sample_only:
        conditions.append("kept.kept_because = 'sample'")
    for number, (path, value) in enumerate(which.attributes):
        conditions.append(_ATTRIBUTE.replace("{n}", str(number)))
        bound |= {f"name{number}": path, f"path{number}": path.split("."), f"values{number}": _json_values(value)}
    return conditions, bound


def _json_values(value: str) -> list[str]:
    """What an attribute that reads like this may be in JSON: a text, or a number, true or false."""
    values = [json.dumps(storable_text(value))]
    try:
        other = json.loads(value)
    except ValueError:
        return values
    if isinstance(other, bool | int | float) and value.lower() not in {"nan", "infinity", "-infinity"}:
        values.append(value)
    return values


def _answer(row: RowMapping) -> StoredAnswer:
    record = row["record"]
    review = None
    if row["verdict"] is not None:
        review = Review(
            version=record["version"],
            verdict=ReviewVerdict(row["verdict"]),
            by=row["reviewed_by"],
            at=row["reviewed_at"].timestamp(),
        )
    return StoredAnswer(
        place=AnswerPlace(row["day"], row["id"], row["place"], float(row.get("value") or 0.0)),
        epoch_id=row["epoch_id"],
        request_id=row["request_id"],
        session_id=row["session_id"],
        received_at=row["received_at"].timestamp(),
        method=row["method"],
        attributes=row["attributes"],
        kept_because=row["kept_because"],
        payloads=Payloads(row["payloads"]),
        live_latency=row["live_latency"],
        live_status_code=row["status_code"],
        seen=observation_of(record, bytes(row.get("shadow_response") or b"")),
        review=review,
        label=row["label"],
        labelled=row["labelled"],
        request=bytes(row.get("request") or b""),
        live_response=bytes(row.get("response") or b""),
    )


_SIMILARITY = "CAST(seen.record ->> 'similarity' AS float8)"
_LATENCY = "CAST(seen.record ->> 'latency' AS float8)"
_ATTRIBUTE = (
    "coalesce(kept.attributes -> CAST(:name{n} AS text), kept.attributes #> CAST(:path{n} AS text[])) "
    "= ANY(CAST(:values{n} AS jsonb[]))"
)
_KEY = "(kept.day, kept.id, seen.place)"
# A failure counts as not similar at all, but nothing was compared: it is none of the least similar answers.
_COMPARED = f"CASE WHEN seen.record ->> 'outcome' IN ('ok', 'diverged') THEN {_SIMILARITY} END"
# What is sorted by, what lies beyond a place, and the order.
_ORDERS = {
    AnswerOrder.NEWEST: ("0.0", f"{_KEY} < (:day, :id, :place)", "kept.day DESC, kept.id DESC, seen.place DESC"),
    AnswerOrder.SIMILARITY: (
        _COMPARED,
        f"({_COMPARED}, kept.id, seen.place) > (:value, :id, :place)",
        f"{_COMPARED}, kept.id, seen.place",
    ),
    AnswerOrder.LATENCY: (
        _LATENCY,
        f"({_LATENCY}, kept.id, seen.place) < (:value, :id, :place)",
        f"{_LATENCY} DESC, kept.id DESC, seen.place DESC",
    ),
}
# Of these, the index of comparisons that lists are walked by: what it is of, what lies before an edge, its direction.
_EXTREMES = {
    AnswerOrder.SIMILARITY: ("comparison_similarity(kept.observations)", "<=", "ASC"),
    AnswerOrder.LATENCY: ("comparison_latency(kept.observations)", ">=", "DESC"),
}
_LINE = (
    "kept.day, kept.id, seen.place, kept.epoch_id, kept.request_id, kept.session_id, kept.received_at, kept.method, "
    "kept.attributes, kept.kept_because, kept.payloads, kept.live_latency, kept.status_code, seen.record, "
    "review.verdict, review.reviewed_by, review.reviewed_at, label.value AS label, label.model IS NOT NULL AS labelled"
)
_WHOLE = f"{_LINE}, kept.request, kept.response, kept.shadow_responses[seen.place] AS shadow_response"
_FROM = """
    FROM comparison AS kept
    JOIN epoch ON epoch.id = kept.epoch_id
    JOIN experiment ON experiment.id = epoch.experiment_id
    CROSS JOIN LATERAL jsonb_array_elements(kept.observations) WITH ORDINALITY AS seen (record, place)
    LEFT JOIN review ON review.comparison_id = kept.id AND review.version = seen.record ->> 'version'
    LEFT JOIN label ON label.model = experiment.model AND label.request_id = kept.request_id
"""
_SCANNED = """
    SELECT day, id, row_number() OVER (ORDER BY day, id) AS n
    FROM (
        SELECT kept.day, kept.id FROM comparison AS kept
        WHERE kept.epoch_id = ANY(:epochs) AND kept.day >= :day AND (kept.day, kept.id) {beyond} (:day, :id){days}
        ORDER BY kept.day, kept.id LIMIT :scanned
    ) AS scanned
    ORDER BY day DESC, id DESC LIMIT 1
"""
# The size of a column that lies elsewhere is known without fetching it.
_PAGE = f"""
    WITH found AS (
        SELECT kept.day, kept.id, seen.place,
               octet_length(kept.request) + octet_length(kept.response)
               + coalesce(octet_length(kept.shadow_responses[seen.place]), 0) AS size
        {_FROM}
        WHERE {{conditions}}
        ORDER BY kept.day, kept.id, seen.place LIMIT :most
    ), summed AS (
        SELECT *, sum(size) OVER (ORDER BY day, id, place) - size AS before, count(*) OVER () AS found FROM found
    )
    SELECT {_WHOLE}, fitting.found
    {_FROM}
    JOIN summed AS fitting ON fitting.day = kept.day AND fitting.id = kept.id AND fitting.place = seen.place
    WHERE fitting.before < :bytes
    ORDER BY kept.day, kept.id, seen.place
"""  # noqa: S608  no values
