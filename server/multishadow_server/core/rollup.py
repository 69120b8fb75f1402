"""Additive integer counts: everything that a report is computed from.

One epoch's counts in one time bucket. "Counted" is ok or bad; bad is diverged, error or timeout. A status is one
letter: `o` ok, `b` bad, `x` excluded (uncomparable, dropped or duplicate), `u` unsampled. A pair's subject is `A|B`, in
the epoch's order of candidates. s is similarity and d confidence delta, in millionths; s is 0 for failures.

| family              | subject | level                         | counts                                               |
|---------------------|---------|-------------------------------|------------------------------------------------------|
| outcome             | version | outcome                       | observations                                         |
| uncomparable_reason | version | reason                        | uncomparable observations                            |
| dropped_reason      | version | reason                        | dropped observations                                 |
| error_reason        | version | reason                        | failed calls, by gRPC status                         |
| joint               | A|B|C   | statuses, `obx`               | captures by everybody's status; k <= 5 only          |
| pair                | A|B     | statuses, `ob`                | captures by the pair's status; 16 levels             |
| complete_bad        | version | (empty)                       | bad ones among captures that count for everybody     |
| complete_histogram  | (empty) | how many bad                  | captures that count for everybody                    |
| similarity          | version | 0 … 100                       | counted ones in [i, i + 1) %; 100 is exactly 1       |
| similarity_sum      | version | sum, squares                  | Σs, Σs² over counted observations                    |
| similarity_pair_sum | A|B     | first, second, first_squares, | Σs₁, Σs₂, Σs₁², Σs₂², Σs₁s₂ over captures that count |
|                     |         | second_squares, products      | for both                                             |
| confidence_delta    | version | n, sum, squares               | n, Σd, Σd²                                           |
| latency             | version | bin or inf                    | answers by latency; timeouts are inf, errors left out|
| live_latency        | version | bin                           | the live answers to the same requests                |
| latency_ratio       | version | bin or inf                    | candidate's latency ÷ live's                         |
| slow                | version | outcome                       | answers that agreed, or diverged, over SLOW × live's |
| first_latency       | version | bin or inf                    | streamed answers by time to their first message      |
| live_first_latency  | version | bin                           | the live answers to the same requests                |
| segment             | version | feature=value                 | counted ones of requests of that kind, see `segments`|
| segment_diverged    | version | feature=value                 | diverged ones among them                             |
| segment_failed      | version | feature=value                 | errors and timeouts among them                       |
| live                | (empty) | answered, failed              | sampled captures, by whether live itself answered    |
| stored              | version | divergent                     | comparisons kept for people, in which it was bad     |
| label               | version | o, b, x                       | labelled requests, by whether it was right; live too |
| label_pair          | A|B     | marks, `ox`                   | labelled requests by the pair's marks; live first    |
| review              | version | verdict                       | verdicts of people on its answers beside live's      |
| difference          | version | verdict/s/real or same        | answers that labels or people told apart, s in ‰     |
| session             | version | o, b, x                       | whole sessions that ended; b with any bad turn       |
| session             | (empty) | ended, turns, without_id      | sessions, their turns; requests that are in none     |
| session_pair        | A|B     | statuses, `ob`                | sessions by the pair's status; cut ones are x        |
| session_cut         | version | why, see `sessions.Cut`       | sessions that are not known to be whole              |
| session_length      | (empty) | 1 … 20, 21+                   | sessions by their turns                              |
| turn                | version | place/o or b                  | counted turns of whole sessions; places 1 … 20, 21+  |
| turn_cascade        | version | before or after/o or b        | the same, by whether a bad turn came before          |
| first_divergence    | version | place                         | whole sessions, by the place of their first bad turn |

A label's mark is a status: `o` right, `b` wrong, `x` not to be judged. A difference's verdict is `ok` or `diverged`.

The live version asked again (`noise_floor.NOISE`) is counted as a version in outcome, and as the second of a pair.

Latency bins are 1 % wide, see `latency`; so is SLOW.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Family(StrEnum):
    """What is counted; see the table above."""

    OUTCOME = "outcome"
    UNCOMPARABLE_REASON = "uncomparable_reason"
    DROPPED_REASON = "dropped_reason"
    ERROR_REASON = "error_reason"
    JOINT = "joint"
    PAIR = "pair"
    COMPLETE_BAD = "complete_bad"
    COMPLETE_HISTOGRAM = "complete_histogram"
    SIMILARITY = "similarity"
    SIMILARITY_SUM = "similarity_sum"
    SIMILARITY_PAIR_SUM = "similarity_pair_sum"
    CONFIDENCE_DELTA = "confidence_delta"
    LATENCY = "latency"
    LIVE_LATENCY = "live_latency"
    LATENCY_RATIO = "latency_ratio"
    SLOW = "slow"
    FIRST_LATENCY = "first_latency"
    LIVE_FIRST_LATENCY = "live_first_latency"
    SEGMENT = "segment"
    SEGMENT_DIVERGED = "segment_diverged"
    SEGMENT_FAILED = "segment_failed"
    LIVE = "live"
    STORED = "stored"
    LABEL = "label"
    LABEL_PAIR = "label_pair"
    REVIEW = "review"
    DIFFERENCE = "difference"
    SESSION = "session"
    SESSION_PAIR = "session_pair"
    SESSION_CUT = "session_cut"
    SESSION_LENGTH = "session_length"
    TURN = "turn"
    TURN_CASCADE = "turn_cascade"
    FIRST_DIVERGENCE = "first_divergence"


Tables = Mapping[tuple[str, str], Mapping[str, int]]
"""Counts by level, by (family, subject)."""


class Cell(NamedTuple):
    """Which count: a family ("outcome"), a subject ("A", or "A|B" of a pair) and a level ("diverged")."""

    family: str
    subject: str
    level: str


class Rollup:
    """Counts by cell. Adding is exact, commutative and associative, because everything is an integer.

    Counts are written cell by cell and read table by table; each form is made of the other when it is first asked for.

    Args:
        cells: count by cell; a missing cell is 0.
        tables: the same as tables, in place of cells.
    """

    __slots__ = ("_cells", "_tables")

    def __init__(self, cells: Mapping[Cell, int] | None = None, *, tables: Tables | None = None) -> None:
        self._cells = {} if cells is None and tables is None else cells
        self._tables = tables

    @property
    def cells(self) -> Mapping[Cell, int]:
        """Count by cell; a missing cell is 0."""
        if self._cells is None:
            self._cells = {
                Cell(family, subject, level): count
                for (family, subject), counts in (self._tables or {}).items()
                for level, count in counts.items()
            }
        return self._cells

    def tables(self) -> Tables:
        """Counts by level, by (family, subject), for readers that ask for whole histograms."""
        if self._tables is None:
            tables: dict[tuple[str, str], dict[str, int]] = {}
            for (family, subject, level), count in self.cells.items():
                tables.setdefault((family, subject), {})[level] = count
            self._tables = tables
        return self._tables

    def __add__(self, other: Rollup) -> Rollup:
        total = dict(self.cells)
        for cell, count in other.cells.items():
            total[cell] = total.get(cell, 0) + count
        return Rollup(total)

    def __eq__(self, other: object) -> bool:
        return self.cells == other.cells if isinstance(other, Rollup) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # like that of its cells

    def __repr__(self) -> str:
        return f"Rollup({dict(self.cells)!r})"


def pair_subject(first: str, second: str) -> str:
    """Subject of a pair's cells; `first` comes before `second` in the epoch's candidates."""
    return f"{first}|{second}"
