"""Stored comparisons as lists, each order with an index of its own: see migration 0016."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.records import moment, observation_of, storable_text
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.core.comparison_lists import LATEST, ComparisonFilter, Place, Sort
from multishadow_server.core.keeping import Kept
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.segment_filter import SegmentFilter
from multishadow_server.core.segments import CONFIDENCE, HOUR, INPUT_SIZE, LONGEST_NAME
from multishadow_server.errors import InvalidInput
from multishadow_server.service.ports import ComparisonPage, ListedComparison, WholeComparison

# How many stored comparisons are looked at for one page: a few first, which is enough unless the filter is narrow.
STEPS = (200, 1_000, 3_000)


class PostgresComparisonLists:
    """A ComparisonLists. Every method raises StoreUnavailable when PostgreSQL is.

    Args:
        engine: see `open_engine`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(
        self,
        epoch_id: int,
        which: ComparisonFilter,
        *,
        sort: Sort,
        after: Place | None,
        most: int,
        backwards: bool = False,
    ) -> ComparisonPage:
        """A part of an epoch's stored comparisons; see ports.ComparisonLists."""
        walk = _Walk(epoch_id, which, sort, backwards=backwards)
        found: list[ListedComparison] = []
        searched, at, ended = 0, after, False
        async with reaching(self._engine, "listing comparisons"), self._engine.connect() as connection:
            for step in STEPS:
                rows = await walk.step(connection, after=at, walked=step, most=most + 1 - len(found))
                found += [_listed(row) for row in rows if row["fits"]]
                searched += rows[-1]["walked"] if rows else 0
                ended = not rows or rows[-1]["walked"] < step
                if len(found) > most or ended:
                    break
                at = _place(rows[-1])
        if len(found) > most:
            return ComparisonPage(comparisons=found[:most], searched=searched, next=found[most - 1].place)
        return ComparisonPage(comparisons=found, searched=searched, next=None if ended else at)

    async def whole(self, comparison_id: int) -> WholeComparison | None:
        """One with everything that was stored of it; None when there is none."""
        kept = await PostgresReviews(self._engine).comparison(comparison_id)
        async with reaching(self._engine, "reading a comparison"), self._engine.connect() as connection:
            found = (await connection.execute(_WHOLE, {"id": comparison_id})).first()
        if kept is None or found is None:
            return None
        return WholeComparison(
            kept=kept,
            session_id=found.session_id,
            method=found.method,
            revision=found.revision,
            attributes=found.attributes,
            live_latency=found.live_latency,
            kept_because=Kept(found.kept_because),
        )

    async def session(self, epoch_id: int, session_id: str, *, most: int) -> Sequence[ListedComparison]:
        """The first stored turns of one session, as they were received, without bytes; placed by time."""
        bound = {"epoch_id": epoch_id, "session_id": storable_text(session_id), "most": most}
        async with reaching(self._engine, "reading a session"), self._engine.connect() as connection:
            return [_listed(row) for row in (await connection.execute(_SESSION, bound)).mappings()]


class _Walk:
    """One list, walked along the index of its order."""

    def __init__(self, epoch_id: int, which: ComparisonFilter, sort: Sort, *, backwards: bool) -> None:
        self._value = _VALUES[sort]
        self._descending = sort.descending is not backwards
        self._by_time = sort in {Sort.NEWEST, Sort.OLDEST}
        self._kinds = which.which.kept_because
        conditions = dict(_conditions(which))
        self._fits = " AND ".join(conditions) or "true"
        self._span = " AND ".join(_span(which)) or "true"
        self._bound: dict[str, Any] = {
            "epoch_id": epoch_id,
            **{f"kind_{n}": each for n, each in enumerate(self._kinds)},
        }
        for values in conditions.values():
            self._bound |= values
        for name, at in (("since", which.since), ("until", which.until)):
            if at is not None:
                self._bound |= {name: moment(at), f"{name}_day": moment(at).date()}

    async def step(
        self, connection: AsyncConnection, *, after: Place | None, walked: int, most: int
    ) -> list[RowMapping]:
        """The first `most` of the next `walked` comparisons that fit, and the last of those that were walked."""
        bound = {**self._bound, "walked": walked, "most": most}
        if after is not None:
            if self._by_time and not 0 <= after.value <= LATEST:
                raise InvalidInput("after: this is no place in a list by time; begin at its first page")
            bound |= {"after": moment(after.value) if self._by_time else after.value, "after_id": after.id}
        statement = self._statement(begun=after is not None)
        return list((await connection.execute(statement, bound)).mappings())

    def _statement(self, *, begun: bool) -> TextClause:
        direction, beyond = ("DESC", "<") if self._descending else ("ASC", ">")
        place = f"AND ({self._value}, id) {beyond} (:after, :after_id)" if begun else ""
        # Each reason of being kept is a stretch of the index; two or three of them are merged, by key alone: rows are
        # wide, and only those of the page are read whole.
        stretches = " UNION ALL ".join(
            f"(SELECT day, id, {self._value} AS value, ({self._fits}) AS fits FROM comparison AS kept "  # noqa: S608  made of constants
            f"WHERE epoch_id = :epoch_id AND kept_because = :kind_{n} AND {self._span} {place} "
            f"ORDER BY {self._value} {direction}, id {direction} LIMIT :walked)"
            for n in range(len(self._kinds))
        )
        order = f"ORDER BY value {direction}, id {direction}"
        return text(
            f"WITH walk AS (SELECT * FROM ({stretches}) AS stretch {order} LIMIT :walked), "  # noqa: S608  as above
            f"numbered AS (SELECT walk.*, count(*) OVER () AS walked, row_number() OVER ({order}) AS number, "
            f"count(*) FILTER (WHERE fits) OVER ({order}) AS nth FROM walk) "
            f"SELECT {_COLUMNS}, value, fits, walked, {_REVIEWED} AS reviewed "
            "FROM numbered JOIN comparison USING (day, id) "
            "WHERE (fits AND nth <= :most) OR number = walked ORDER BY number"
        )


_VALUES: Mapping[Sort, str] = {
    Sort.LEAST_SIMILAR: "comparison_similarity(observations)",
    Sort.NEWEST: "received_at",
    Sort.OLDEST: "received_at",
    Sort.SLOWEST: "comparison_latency(observations)",
}
_COLUMNS = (
    "id, request_id, session_id, received_at, attributes, octet_length(request) AS request_bytes, live_latency, "
    "observations, kept_because, payloads"
)
_REVIEWED = "ARRAY(SELECT version FROM review WHERE review.comparison_id = id)"

_WHOLE = text(
    "SELECT session_id, method, revision, attributes, live_latency, kept_because FROM comparison WHERE id = :id"
)
_SESSION = text(
    f"SELECT {_COLUMNS}, received_at AS value, {_REVIEWED} AS reviewed FROM comparison "  # noqa: S608  made of constants
    "WHERE epoch_id = :epoch_id AND left(session_id, 256) = left(:session_id, 256) AND session_id = :session_id "
    "ORDER BY received_at, id LIMIT :most"
)


def _span(which: ComparisonFilter) -> Iterator[str]:
    """Bounds of time; the day leaves out whole partitions."""
    if which.since is not None:
        yield "received_at >= :since AND day >= :since_day"
    if which.until is not None:
        yield "received_at < :until AND day <= :until_day"


def _conditions(which: ComparisonFilter) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What fits, beside what the index finds; each condition with the values that it names."""
    answer, values = ["true"], dict[str, Any]()
    for condition, name, value in (
        ("seen.version = :version", "version", which.version or None),
        ("seen.outcome = ANY(:outcomes)", "outcomes", [*which.which.outcomes] or None),
        ("seen.similarity >= :least", "least", which.least),
        ("seen.similarity <= :most_similar", "most_similar", which.most),
        ("(seen.latency >= :slower OR seen.outcome = 'timeout')", "slower", which.slower),
    ):
        if value is not None:
            answer.append(condition)
            values[name] = value
    if values:
        yield f"EXISTS (SELECT FROM {_SEEN} WHERE {' AND '.join(answer)})", values
    if which.reviewed is not None:
        said = "review.comparison_id = kept.id AND :reviewed_version IN ('', review.version)"
        yield (
            f"{'' if which.reviewed else 'NOT '}EXISTS (SELECT FROM review WHERE {said})",
            {"reviewed_version": which.version},
        )
    if which.segment is not None:
        yield _in_segment(which.segment)


_SEEN = (
    "jsonb_to_recordset(kept.observations) AS seen (version text, outcome text, similarity float, latency float, "
    "live_confidence float)"
)


def _in_segment(segment: SegmentFilter) -> tuple[str, Mapping[str, Any]]:
    """Whether a request is of a segment, as `core.segments.levels_of` would say."""
    if segment.feature == HOUR:
        return "extract(hour FROM kept.received_at AT TIME ZONE 'UTC') = :hour", {"hour": int(segment.value)}
    if segment.range is not None and segment.feature == INPUT_SIZE:
        return _between("octet_length(kept.request)", segment)
    if segment.range is not None and segment.feature == CONFIDENCE:
        first = f"(SELECT live_confidence FROM {_SEEN} WHERE live_confidence IS NOT NULL LIMIT 1)"  # noqa: S608
        return _between(first, segment)
    conditions, values = [], dict[str, Any]()
    for n, path in enumerate(segment.paths):
        values[f"path_{n}"] = list(path)
        # Strings are counted by their beginnings, booleans as they are written.
        conditions.append(f"left(kept.attributes #>> :path_{n}, {LONGEST_NAME}) = :level")
        if segment.range is not None:
            number = f"CASE jsonb_typeof(kept.attributes #> :path_{n}) WHEN 'number' THEN "
            number += f"CAST(kept.attributes #>> :path_{n} AS float) END"
            between, bounds = _between(f"({number})", segment)
            conditions.append(between)
            values |= bounds
    return f"({' OR '.join(conditions)})", {**values, "level": segment.value[:LONGEST_NAME]}


def _between(what: str, segment: SegmentFilter) -> tuple[str, Mapping[str, Any]]:
    assert segment.range is not None
    above = ">=" if segment.range.with_lower else ">"
    below = "<=" if segment.range.with_upper else "<"
    bounds = {"lower": segment.range.lower, "upper": segment.range.upper}
    return f"({what} {above} CAST(:lower AS float) AND {what} {below} CAST(:upper AS float))", bounds


def _place(row: RowMapping) -> Place:
    value = row["value"]
    return Place(value if isinstance(value, float) else value.timestamp(), row["id"])


def _listed(row: RowMapping) -> ListedComparison:
    return ListedComparison(
        id=row["id"],
        place=_place(row),
        request_id=row["request_id"],
        session_id=row["session_id"],
        received_at=row["received_at"].timestamp(),
        attributes=row["attributes"],
        request_bytes=row["request_bytes"],
        live_latency=row["live_latency"],
        observations=[observation_of(record, b"") for record in row["observations"]],
        kept_because=Kept(row["kept_because"]),
        payloads=Payloads(row["payloads"]),
        reviewed=frozenset(row["reviewed"]),
    )
