"""Small pictures of a week, as coordinates for SVG; each has its table beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from multishadow_server.core.week_counts import Day
from multishadow_server.core.week_words import day, per_cent

WIDTH, HEIGHT = 520.0, 130.0
_LEFT, _TOP, _BOTTOM = 48.0, 8.0, 22.0
_NICE = (1.0, 2.0, 5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A day's rate: where it is, and where its interval ends; in the picture's units."""

    x: float
    y: float
    upper: float
    lower: float
    label: str
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of the grid."""

    y: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Days:
    """The rates of a week's days."""

    marks: tuple[Mark, ...]
    grid: tuple[Line, ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = _LEFT


def days(found: Sequence[Day], week_starts_at: int) -> Days:
    """A picture of rates by day; the axis begins at 0 and ends above the largest rate, not above wide intervals."""
    rates = [(each, each.rate.interval) for each in found if each.rate.interval is not None]
    largest = max((interval.estimate for _, interval in rates), default=0.0)
    widest = max((interval.upper for _, interval in rates), default=0.0)
    top = _nice(min(max(3 * largest, 0.01), max(widest, 1e-4)))

    def height(rate: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - min(rate, top) / top)

    step = (WIDTH - _LEFT) / 7
    marks = tuple(
        Mark(
            x=_LEFT + step * ((each.starts_at - week_starts_at) // 86_400 + 0.5),
            y=height(interval.estimate),
            upper=height(interval.upper),
            lower=height(interval.lower),
            label=day(each.starts_at).split(" ")[0],
            said=f"{day(each.starts_at)}: {per_cent(interval.estimate)}, {each.rate.bad:,} of {each.rate.n:,}",
        )
        for each, interval in rates
    )
    grid = tuple(Line(y=height(part * top), label=per_cent(part * top)) for part in (0.0, 0.5, 1.0))
    return Days(marks=marks, grid=grid)


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, … above."""
    power = 10.0 ** math.floor(math.log10(value))
    return min(1.0, next((nice * power for nice in _NICE if nice * power >= value * (1 - 1e-9)), 10 * power))
