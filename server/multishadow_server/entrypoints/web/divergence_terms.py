"""What somebody filters divergent requests by, as the query of a path and the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from multishadow_server.core import segment_filter
from multishadow_server.core.comparison_lists import LATEST, ComparisonFilter, Sort, Which
from multishadow_server.errors import InvalidInput

FIELDS = ("which", "version", "segment", "least", "most", "slower", "reviewed", "since", "until", "sort", "epoch")
T = TypeVar("T", Which, Sort)
_REVIEWED: Mapping[str, bool | None] = {"": None, "yes": True, "no": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """A filter and an order, with the words that they were given in.

    Args:
        which: the filter.
        sort: the order.
        epoch: number of the epoch; 0 for the present one.
        given: what was given, by field; without what is empty or says what holds anyway.
    """

    which: ComparisonFilter
    sort: Sort
    epoch: int
    given: Mapping[str, str] = field(default_factory=dict)

    def but(self, **changed: object) -> Mapping[str, object]:
        """The query of a list that differs in these fields."""
        return {**self.given, **changed}


def terms_of(query: Mapping[str, str]) -> Terms:
    """What a query says. Fields that are none of these are left to others.

    Raises:
        InvalidInput: a field cannot be read; it says which, and what is allowed.
    """
    given = {name: query[name].strip() for name in FIELDS if query.get(name, "").strip()}
    which = _choice("which", Which, given.get("which", Which.DIVERGED))
    sort = _choice("sort", Sort, given.get("sort", default_sort(which)))
    reviewed = given.get("reviewed", "")
    if reviewed not in _REVIEWED:
        raise InvalidInput(f"reviewed: {reviewed[:40]!r} is neither yes nor no")
    slower = _number("slower", given.get("slower"))
    return Terms(
        which=ComparisonFilter(
            version=given.get("version", ""),
            which=which,
            least=_number("least", given.get("least")),
            most=_number("most", given.get("most")),
            slower=None if slower is None else slower / 1000,
            segment=segment_filter.parse(given["segment"]) if "segment" in given else None,
            reviewed=_REVIEWED[reviewed],
            since=_moment("since", given.get("since")),
            until=_moment("until", given.get("until")),
        ),
        sort=sort,
        epoch=_whole("epoch", given.get("epoch", "0")),
        given=given,
    )


def default_sort(which: Which) -> Sort:
    """The order that shows first what is worth a look: answers by their similarity, all else by time."""
    return Sort.LEAST_SIMILAR if which in {Which.DIVERGED, Which.AGREED, Which.ALL} else Sort.NEWEST


def _choice(name: str, kind: type[T], word: str) -> T:
    try:
        return kind(word)
    except ValueError:
        raise InvalidInput(f"{name}: {word[:40]!r} is none of {', '.join(kind)}") from None


def _number(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"{name}: {text[:40]!r} is no number") from None


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput(f"{name}: {text[:40]!r} is no number")
    return int(text)


def _moment(name: str, text: str | None) -> float | None:
    """Times are UTC, as they are shown, unless they say otherwise."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{name}: {text[:40]!r} is no time; write 2026-11-26T14:00, in UTC") from None
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds <= LATEST:
        raise InvalidInput(f"{name}: {text[:40]!r} is before 1970 or after 9999")
    return seconds
