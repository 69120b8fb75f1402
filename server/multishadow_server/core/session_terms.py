"""How a model's requests form sessions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.prediction import Json
from multishadow_server.errors import InvalidInput

DEFAULT_IDLE = 1_800.0
DEFAULT_WAIT = 1.0
SHORTEST_IDLE = 1.0
LONGEST_IDLE = 12 * 3_600.0
LONGEST_WAIT = 60.0
LONGEST_PATH = 256
# Above it a float, which is what JSON's numbers are here, does not know every whole number any more.
LARGEST_TURN = 2**53


class Unit(StrEnum):
    """What candidates are ranked by: what of the traffic counts as one observation."""

    REQUEST = "request"
    SESSION = "session"


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionTerms:
    """How a model's requests form sessions.

    Args:
        idle: seconds without a request after which a session has ended.
        turn: path of the request attribute that numbers a session's turns; empty when callers give none.
        first: the number of a session's first turn, 0 or 1.
        wait: longest time that a turn waits for one before it that is late, in seconds.
        unit: what candidates are ranked by.
    """

    idle: float = DEFAULT_IDLE
    turn: str = ""
    first: int = 1
    wait: float = DEFAULT_WAIT
    unit: Unit = Unit.SESSION

    def turn_of(self, attributes: Mapping[str, Json]) -> int | None:
        """The caller's number of a request's turn; None where it gives none, or none that can be read."""
        if not self.turn:
            return None
        value: Json | Mapping[str, Json] = attributes
        for name in self.turn.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(LARGEST_TURN)):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
            return None
        return int(value) if self.first <= value < LARGEST_TURN else None

    def alike(self, other: SessionTerms) -> bool:
        """Whether both make the same sessions of the same requests."""
        numbered = (self.first == other.first) or not self.turn
        return (self.idle, self.turn) == (other.idle, other.turn) and numbered


def check(terms: SessionTerms) -> None:
    """Raise InvalidInput unless they can be kept to: what is wrong, and what is allowed."""
    # Written so that NaN fails: every comparison with it is false.
    if not SHORTEST_IDLE <= terms.idle <= LONGEST_IDLE:
        raise InvalidInput(
            f"sessions.idle: {terms.idle:g} s is out of range; allowed are 1 s to 12 h, and 0 for no sessions"
        )
    if not 0 <= terms.wait <= LONGEST_WAIT:
        raise InvalidInput(f"sessions.wait_ms: {1000 * terms.wait:g} is out of range; allowed are 0 to 60000")
    if terms.first not in {0, 1}:
        raise InvalidInput(f"sessions.first: {terms.first} is out of range; a session's first turn is 0 or 1")
    if len(terms.turn) > LONGEST_PATH or (terms.turn and not all(terms.turn.split("."))):
        raise InvalidInput(
            f"sessions.turn: {terms.turn[:80]!r} is no attribute's path; write it like `turn` or `chat.turn`, with at "
            f"most {LONGEST_PATH} characters"
        )


def unit_of(words: str) -> Unit:
    """The unit that is named. Raises InvalidInput unless it is one."""
    try:
        return Unit(words)
    except ValueError:
        raise InvalidInput(f"unit: allowed are {' and '.join(Unit)}, not {words!r}") from None


def in_words(terms: SessionTerms | None) -> str:
    """For people who read what changed."""
    if terms is None:
        return "none"
    turns = f"turns numbered by {terms.turn} from {terms.first}" if terms.turn else "turns in order of arrival"
    return f"end after {_span(terms.idle)}, {turns}, waiting {1000 * terms.wait:g} ms, ranked by {terms.unit}"


def same_sessions(before: SessionTerms | None, after: SessionTerms | None) -> bool:
    """Whether what was counted before and what is counted after may be added up."""
    if before is None or after is None:
        return before is after
    return before.alike(after)


def _span(seconds: float) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size and math.isclose(seconds % size, 0.0):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
