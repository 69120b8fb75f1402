"""Additive integer counts: everything that a report is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Cell(NamedTuple):
    """Which count: a family ("outcome"), a subject ("A", or "A|B" of a pair) and a level ("diverged")."""

    family: str
    subject: str
    level: str


@dataclass(frozen=True, slots=True)
class Rollup:
    """Counts by cell. Adding is exact, commutative and associative, because everything is an integer.

    Args:
        cells: count by cell; a missing cell is 0.
    """

    cells: Mapping[Cell, int] = field(default_factory=dict)

    def __add__(self, other: Rollup) -> Rollup:
        total = dict(self.cells)
        for cell, count in other.cells.items():
            total[cell] = total.get(cell, 0) + count
        return Rollup(total)
