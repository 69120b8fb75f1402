"""Intervals drawn one below the other on a common axis, with the edges of the bands.

          0   1 %       5 %        10 %         20 %
A         ├●┤ ┊          ┊           ┊              0.22 %    0.10 – 0.48 %
B             ┊   ├──●──┤┊           ┊              3.02 %    2.61 – 3.47 %
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from multishadow_client.cli import figures

BAND_EDGES = (0.01, 0.05, 0.10)
_TICKS = (0.0, *BAND_EDGES, 0.2, 0.5, 1.0, 0.02, 0.001)
"""In order of importance: a label that has no room is left out."""
_TOPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
_WIDEST = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Whisker:
    """One line of the picture: an interval of shares in [0, 1]; without one, `missing` says why."""

    label: str
    style: str = ""
    estimate: float = 0.0
    lower: float = 0.0
    upper: float = 0.0
    missing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """From 0 to `top` over `width` cells, by square root.

    On a linear axis one young candidate, whose interval still reaches 80 %, would squeeze the bands below 10 %, where
    all decisions are made, into a few cells.
    """

    top: float
    width: int

    def cell(self, share: float) -> int:
        """The cell of a share."""
        return round((self.width - 1) * math.sqrt(min(max(share, 0.0), self.top) / self.top))

    def labels(self) -> str:
        """The line of labels, each centred on its cell, as many as have room."""
        line = [" "] * (self.width + 6)
        for tick in (*_TICKS, self.top):
            label = f"{100 * tick:g} %"
            start = max(0, self.cell(tick) - len(label) // 2)
            around = line[max(0, start - 1) : start + len(label) + 1]
            if tick <= self.top and all(cell == " " for cell in around):
                line[start : start + len(label)] = label
        return "".join(line).rstrip()

    def draw(self, whisker: Whisker) -> Text:
        """One interval, over the bands' edges."""
        cells = [(" ", "")] * self.width
        for edge in BAND_EDGES:
            if edge <= self.top:
                cells[self.cell(edge)] = ("┊", "dim")
        if not whisker.missing:
            first, last = self.cell(whisker.lower), self.cell(whisker.upper)
            for cell in range(first, last + 1):
                cells[cell] = ("─", whisker.style)
            cells[first], cells[last] = ("├", whisker.style), ("┤", whisker.style)
            cells[self.cell(whisker.estimate)] = ("●", whisker.style)
        return Text.assemble(*cells)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalPicture:
    """The picture, as wide as there is room."""

    whiskers: Sequence[Whisker]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield a line of labels, then a line for each interval."""
        yield from self._lines(options.max_width)

    def _lines(self, room: int) -> Iterator[Text]:
        names = min(max((len(whisker.label) for whisker in self.whiskers), default=0), max(20, room // 3))
        said = max((len(_in_figures(whisker)) for whisker in self.whiskers), default=0)
        axis = Axis(top=self._top(), width=max(16, min(_WIDEST, room - names - said - 4)))
        yield Text(f"{'':{names}}  {axis.labels()}", style="dim")
        for whisker in self.whiskers:
            label = Text(whisker.label, style=whisker.style, overflow="ellipsis", no_wrap=True)
            label.truncate(names, overflow="ellipsis", pad=True)
            yield Text.assemble(label, "  ", axis.draw(whisker), "  ", _in_figures(whisker))

    def _top(self) -> float:
        highest = max((whisker.upper for whisker in self.whiskers), default=0.0)
        return next((top for top in _TOPS if top >= highest), 1.0)


def _in_figures(whisker: Whisker) -> Text:
    if whisker.missing:
        return Text(whisker.missing, style="dim")
    estimate = figures.percent(whisker.estimate)
    interval = figures.percent_range(whisker.lower, whisker.upper)
    return Text.assemble((f"{estimate:>8}", "bold"), f"  {interval:>15}")
