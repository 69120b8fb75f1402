"""Intervals drawn one below the other on a common axis: where everything lies, in percent of the picture's width.

Widths are shares of whatever room there is, so that a phone shows the same picture as a wide screen, with letters of
the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from multishadow_client.cli import figures
from multishadow_server.core.findings import Interval
from multishadow_server.core.statistics.bands import EDGES

_TOPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# In order of importance: a label that has no room is left out.
_TICKS = (0.0, *EDGES, 0.2, 0.5, 1.0, 0.02, 0.001)
# Labels nearer than this overlap on a phone.
_ROOM = 13.0
_BAND_NAMES = ("safe", "investigate", "edge", "stop")
_REACHES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark of the axis: its place in percent of the width, and what it says."""

    place: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A part of the axis, in percent of the width: `start` to `start` + `width`."""

    name: str
    start: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Whisker:
    """An interval's places, in percent of the width."""

    lower: float
    estimate: float
    upper: float

    @property
    def width(self) -> float:
        """From end to end."""
        return self.upper - self.lower


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a picture.

    Args:
        name: whose interval it is.
        whisker: where it lies; None where nothing is known.
        estimate, interval: the same in figures.
    """

    name: str
    whisker: Whisker | None
    estimate: str
    interval: str


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalPicture:
    """Rows on one axis, with what lies behind them."""

    ticks: tuple[Tick, ...]
    bands: tuple[Stretch, ...]
    rows: tuple[Row, ...]


def of_rates(intervals: Iterable[tuple[str, Interval | None]]) -> IntervalPicture:
    """Rates from 0 up, by square root, over the bands of divergence.

    On a linear axis one young candidate, whose interval still reaches 80 %, would squeeze the bands below 10 %, where
    all decisions are made, into a corner.
    """
    named = list(intervals)
    highest = max((interval.upper for _, interval in named if interval), default=0.0)
    top = next((top for top in _TOPS if top >= highest), 1.0)

    def place(rate: float) -> float:
        return round(100 * math.sqrt(min(max(rate, 0.0), top) / top), 3)

    return IntervalPicture(
        ticks=tuple(
            _with_room(Tick(place=place(tick), label=f"{100 * tick:g} %") for tick in (*_TICKS, top) if tick <= top)
        ),
        bands=tuple(_bands(top, place(EDGES[0]), place(EDGES[1]), place(EDGES[2]))),
        rows=tuple(_rate_row(name, interval, place) for name, interval in named),
    )


def _rate_row(name: str, interval: Interval | None, place: Callable[[float], float]) -> Row:
    if interval is None:
        return Row(name=name, whisker=None, estimate=figures.NONE, interval="")
    return Row(
        name=name,
        whisker=Whisker(lower=place(interval.lower), estimate=place(interval.estimate), upper=place(interval.upper)),
        estimate=figures.percent(interval.estimate),
        interval=figures.percent_range(interval.lower, interval.upper),
    )


def of_differences(intervals: Iterable[tuple[str, Interval | None]], *, margin: float = 0.0) -> IntervalPicture:
    """Differences of shares about zero, by square root to both sides, over what counts as equivalent.

    Args:
        intervals: differences in [-1, 1], by what they are of.
        margin: those within ±margin do not matter; 0 draws nothing behind them.
    """
    named = list(intervals)
    reach = _reach(named)
    start, end = _rooted(-margin, reach), _rooted(margin, reach)
    return IntervalPicture(
        ticks=tuple(_difference_ticks(reach)),
        bands=(Stretch(name="equivalent", start=start, width=end - start),) if margin else (),
        rows=tuple(
            _signed_row(
                name,
                each,
                place=lambda value: _rooted(value, reach),
                figure=figures.points,
                figure_range=figures.points_range,
            )
            for name, each in named
        ),
    )


def of_correlations(intervals: Iterable[tuple[str, Interval]]) -> IntervalPicture:
    """Correlations about zero, likewise."""
    named = list(intervals)
    reach = _reach(named)

    def figure(rho: float) -> str:
        return f"{rho:+.3f}".replace("-", "−")

    return IntervalPicture(
        ticks=tuple(Tick(place=_signed(at, reach), label=_sign(at)) for at in (-reach, 0.0, reach)),
        bands=(),
        rows=tuple(
            _signed_row(
                name,
                each,
                place=lambda value: _signed(value, reach),
                figure=figure,
                figure_range=lambda lower, upper: f"[{figure(lower)}, {figure(upper)}]",
            )
            for name, each in named
        ),
    )


def _reach(named: Iterable[tuple[str, Interval | None]]) -> float:
    farthest = max((max(-each.lower, each.upper) for _, each in named if each), default=0.0)
    return next((reach for reach in _REACHES if reach >= farthest), 1.0)


def _signed(value: float, reach: float) -> float:
    return round(50 + 50 * min(max(value / reach, -1.0), 1.0), 3)


def _rooted(value: float, reach: float) -> float:
    return _signed(math.copysign(math.sqrt(abs(value)), value), math.sqrt(reach))


def _sign(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"


def _difference_ticks(reach: float) -> Iterator[Tick]:
    for at in (-reach, -reach / 10, 0.0, reach / 10, reach):
        yield Tick(place=_rooted(at, reach), label=f"{_sign(100 * at)} pp" if at else "0")


def _signed_row(
    name: str,
    interval: Interval | None,
    *,
    place: Callable[[float], float],
    figure: Callable[[float], str],
    figure_range: Callable[[float, float], str],
) -> Row:
    if interval is None:
        return Row(name=name, whisker=None, estimate=figures.NONE, interval="")
    lower, estimate, upper = (place(each) for each in (interval.lower, interval.estimate, interval.upper))
    return Row(
        name=name,
        whisker=Whisker(lower=lower, estimate=estimate, upper=upper),
        estimate=figure(interval.estimate),
        interval=figure_range(interval.lower, interval.upper),
    )


def _bands(top: float, *edges: float) -> Iterator[Stretch]:
    ends = [0.0, *edges, 100.0]
    for name, begin, (start, end) in zip(_BAND_NAMES, (0.0, *EDGES), pairwise(ends), strict=True):
        if begin < top:
            yield Stretch(name=name, start=start, width=round(end - start, 3))


def _with_room(ticks: Iterable[Tick]) -> Sequence[Tick]:
    kept: list[Tick] = []
    for tick in ticks:
        if all(abs(tick.place - other.place) >= _ROOM for other in kept):
            kept.append(tick)
    return sorted(kept, key=lambda tick: tick.place)
