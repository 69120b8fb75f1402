"""Structured answers, field by field."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from multishadow_server.core.comparison.scalar import close
from multishadow_server.core.comparison.verdict import Comparison, judged, uncomparable
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Json, Structured

# Bounds against hostile answers. 200,000 leaves take about a second and 100 MB; protobuf itself reads 32 levels.
MOST_LEAVES = 200_000
MOST_LEVELS = 64

SHOWN_DIFFERENCES = 3

Path: TypeAlias = tuple[str | int, ...]
Pattern: TypeAlias = tuple[str, ...]
Leaves: TypeAlias = dict[Path, Json]


class _TooLarge(Exception):
    """The structure is over a bound; the message is the reason."""


class Missing:
    """What stands for a field that one side lacks."""

    def __repr__(self) -> str:
        return "missing"


MISSING = Missing()


def compare(comparator: Comparator, live: Structured, shadow: Structured) -> Comparison:
    """They agree iff every compared leaf does; similarity is the share of leaves that agree, of all paths of both.

    A leaf is a string, number, boolean, null, or an empty object or list. Two numbers agree within the comparator's
    tolerances, all else when equal and of one type (`true` is not 1). A field that one side lacks differs. A path that
    fits an ignored pattern, or lies below one that does, is left out; `*` fits any key or index of one level, and a
    key with dots is addressed as if each part were a level.

    Uncomparable: `empty_structure` (either side has no field at all), `nothing_compared` (every field is ignored),
    `nan` (a compared number), `structure_too_large`, `structure_too_deep`.
    """
    if not live.value or not shadow.value:
        return uncomparable("empty_structure", f"live has {len(live.value)} fields, shadow has {len(shadow.value)}")
    ignored = [tuple(pattern.split(".")) for pattern in comparator.ignored_fields]
    try:
        live_leaves, shadow_leaves = _leaves(live.value, ignored), _leaves(shadow.value, ignored)
    except _TooLarge as error:
        return uncomparable(str(error), f"at most {MOST_LEAVES:,} fields in {MOST_LEVELS} levels are compared")
    if not live_leaves and not shadow_leaves:
        return uncomparable("nothing_compared", "every field is ignored")
    for side, leaves in (("live", live_leaves), ("shadow", shadow_leaves)):
        if (path := _first_nan(leaves)) is not None:
            return uncomparable("nan", f"{_dotted(path)} of {side}")
    return _judged(comparator, live_leaves, shadow_leaves)


def holds_more_than(most: int, root: Structured) -> bool:
    """Whether it has more than `most` values, counted no further than that."""
    waiting: list[Json] = [dict(root.value)]
    seen = 0
    while waiting and seen <= most:
        value = waiting.pop()
        if isinstance(value, dict | list):
            seen += len(value)
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return seen > most


def _judged(comparator: Comparator, live: Leaves, shadow: Leaves) -> Comparison:
    paths = live.keys() | shadow.keys()
    differing = [path for path in paths if not equal(comparator, live.get(path, MISSING), shadow.get(path, MISSING))]
    similarity = (len(paths) - len(differing)) / len(paths)
    if not differing:
        return judged(agree=True, similarity=similarity)
    # Protobuf maps have no order: by name, so that the same pair always reads the same.
    first = heapq.nsmallest(SHOWN_DIFFERENCES, differing, key=order)
    shown = ", ".join(
        f"{_dotted(path)} ({_shown(live.get(path, MISSING))} | {_shown(shadow.get(path, MISSING))})" for path in first
    )
    more = ", …" if len(differing) > len(first) else ""
    detail = f"{len(differing)} of {len(paths)} fields differ (live | shadow): {shown}{more}"
    return judged(agree=False, similarity=similarity, detail=detail)


def equal(comparator: Comparator, a: Json | Missing, b: Json | Missing) -> bool:
    """Whether two leaves agree: numbers within the comparator's tolerances, all else when equal and of one type."""
    if _is_number(a) and _is_number(b):
        return close(comparator, float(a), float(b))  # type: ignore[arg-type]  # both were just found to be numbers
    return type(a) is type(b) and a == b


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first_nan(leaves: Leaves) -> Path | None:
    found = (path for path, value in leaves.items() if isinstance(value, float) and math.isnan(value))
    return min(found, key=order, default=None)


def _leaves(root: Mapping[str, Json], ignored: list[Pattern]) -> Leaves:
    """Every leaf that is not ignored, by path. Without recursion, so that depth costs no stack."""
    found: Leaves = {}
    waiting: list[tuple[Path, Json, list[Pattern]]] = [((), dict(root), ignored)]
    while waiting:
        if len(found) + len(waiting) > MOST_LEAVES:
            raise _TooLarge("structure_too_large")
        path, value, patterns = waiting.pop()
        if not isinstance(value, dict | list) or not value:
            found[path] = value
            continue
        if len(path) >= MOST_LEVELS:
            raise _TooLarge("structure_too_deep")
        for key, child in children(value):
            below = narrowed(patterns, str(key))
            if () not in below:
                waiting.append(((*path, key), child, below))
    return found


def children(value: dict[str, Json] | list[Json]) -> Iterator[tuple[str | int, Json]]:
    """What is one level below, by key or index."""
    yield from value.items() if isinstance(value, dict) else enumerate(value)


def narrowed(patterns: list[Pattern], key: str) -> list[Pattern]:
    """What remains of the patterns below this key; `()` where one is complete."""
    for part in key.split(".") if patterns else ():
        if () in patterns:
            break
        patterns = [pattern[1:] for pattern in patterns if pattern[0] in ("*", part)]
    return patterns


def order(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """What paths are sorted by: indexes as numbers, before keys."""
    return tuple((True, key, "") if isinstance(key, int) else (False, 0, key) for key in path)


def _dotted(path: Path) -> str:
    return _cut(".".join(map(str, path)), 80)


def _shown(value: Json | Missing) -> str:
    if isinstance(value, Missing):
        return repr(value)
    return _cut(json.dumps(value[:64] if isinstance(value, str) else value, ensure_ascii=False), 40)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
