"""Two structured answers, field by field: what differs, what differs within tolerance, and what was not compared."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from multishadow_server.core.comparison.structured import (
    MISSING,
    MOST_LEVELS,
    Missing,
    Path,
    Pattern,
    children,
    equal,
    narrowed,
    order,
)
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Json, Structured

# Fields of each answer that are looked at: about 30 ms. The comparison itself goes further.
MOST_FIELDS = 5_000
MOST_SHOWN = 200
LONGEST_VALUE = 300
LONGEST_PATH = 160


class FieldState(StrEnum):
    """How a field of two answers compares."""

    DIFFERS = "differs"
    LIVE_ONLY = "live only"
    SHADOW_ONLY = "candidate only"
    IN_TOLERANCE = "within tolerance"
    IGNORED = "ignored"
    SAME = "same"


DIFFERENT = (FieldState.DIFFERS, FieldState.LIVE_ONLY, FieldState.SHADOW_ONLY)


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldLine:
    """One field: a leaf of either answer. Values are JSON, cut short; None where an answer lacks it."""

    path: str
    state: FieldState
    live: str | None
    shadow: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureDifference:
    """Two structured answers side by side.

    Args:
        lines: fields, those that differ first, each kind by path; at most MOST_SHOWN of a kind.
        counts: how many there are of each kind, shown or not.
        cut: whether there are more fields than were looked at.
    """

    lines: Sequence[FieldLine]
    counts: Mapping[FieldState, int]
    cut: bool

    @property
    def differing(self) -> int:
        """How many fields differ."""
        return sum(self.counts.get(state, 0) for state in DIFFERENT)

    @property
    def compared(self) -> int:
        """How many were compared."""
        return sum(self.counts.values()) - self.counts.get(FieldState.IGNORED, 0)

    def of(self, *states: FieldState) -> Sequence[FieldLine]:
        """The lines of some kinds."""
        return [line for line in self.lines if line.state in states]


def difference(comparator: Comparator, live: Structured, shadow: Structured) -> StructureDifference:
    """What differs between two structured answers, judged as `core.comparison.structured` judges them."""
    patterns = [tuple(pattern.split(".")) for pattern in comparator.ignored_fields]
    fields: dict[Path, tuple[bool, list[Json | Missing]]] = {}
    cut = False
    for side, answer in enumerate((live, shadow)):
        for n, (path, value, ignored) in enumerate(_leaves(answer.value, patterns)):
            if n >= MOST_FIELDS:
                cut = True
                break
            fields.setdefault(path, (ignored, [MISSING, MISSING]))[1][side] = value
    sorted_out: dict[FieldState, list[Path]] = {}
    for path, (ignored, (mine, theirs)) in fields.items():
        state = FieldState.IGNORED if ignored else _state(comparator, mine, theirs)
        sorted_out.setdefault(state, []).append(path)
    return StructureDifference(
        lines=[
            FieldLine(
                path=_dotted(path), state=state, live=_shown(fields[path][1][0]), shadow=_shown(fields[path][1][1])
            )
            for state in FieldState
            for path in heapq.nsmallest(MOST_SHOWN, sorted_out.get(state, ()), key=order)
        ],
        counts={state: len(paths) for state, paths in sorted_out.items()},
        cut=cut,
    )


def _state(comparator: Comparator, live: Json | Missing, shadow: Json | Missing) -> FieldState:
    if isinstance(live, Missing):
        return FieldState.SHADOW_ONLY
    if isinstance(shadow, Missing):
        return FieldState.LIVE_ONLY
    if not equal(comparator, live, shadow):
        return FieldState.DIFFERS
    return FieldState.SAME if live == shadow else FieldState.IN_TOLERANCE


def _leaves(root: Mapping[str, Json], patterns: list[Pattern]) -> Iterator[tuple[Path, Json, bool]]:
    """Every leaf with its path and whether it is ignored. Without recursion, so that depth costs no stack."""
    waiting: list[tuple[Path, Json, list[Pattern]]] = [((), dict(root), patterns)]
    while waiting:
        path, value, left = waiting.pop()
        ignored = () in left
        if not isinstance(value, dict | list) or not value or len(path) >= MOST_LEVELS:
            if path:
                yield path, value, ignored
            continue
        # One more than are looked at, so that it is known that there are more.
        for key, child in islice(children(value), MOST_FIELDS + 1):
            waiting.append(((*path, key), child, [()] if ignored else narrowed(left, str(key))))


def _shown(value: Json | Missing) -> str | None:
    if isinstance(value, Missing):
        return None
    if isinstance(value, dict | list):
        return f"{len(value):,} more below" if value else json.dumps(value)
    # Cut before it is written: a value may be a megabyte long.
    text = json.dumps(value[:LONGEST_VALUE] if isinstance(value, str) else value, ensure_ascii=False)
    rest = len(value) - LONGEST_VALUE if isinstance(value, str) else 0
    return f"{text[:-1]}… and {rest:,} more characters" if rest > 0 else text


def _dotted(path: Path) -> str:
    text = ".".join(str(part)[:LONGEST_PATH] for part in path)
    return text if len(text) <= LONGEST_PATH else f"{text[:LONGEST_PATH]}…"
