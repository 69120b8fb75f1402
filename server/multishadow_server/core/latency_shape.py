"""Distributions of latencies, to be drawn: the bins of a histogram gathered to few bars, with what lies beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core import latency

MOST_BARS = 48
# The slowest thousandth would squeeze all others into a corner; it is said in figures.
DRAWN_SHARE = 0.999


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """Answers that took from `lower` to `upper` seconds, as a share of all."""

    lower: float
    upper: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyShape:
    """How long one version took.

    Args:
        version: it.
        n: answers, timeouts among them.
        timed_out: of these, timeouts.
        beyond: answers slower than the last bar, timeouts left out.
        bars: in order, without gaps.
        p50, p95, p99: seconds; inf among timeouts.
    """

    version: str
    n: int
    timed_out: int
    beyond: int
    bars: tuple[Bar, ...]
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Panels:
    """Shapes on one logarithmic axis of seconds.

    Args:
        lower, upper: the axis' ends.
        highest: the largest share of a bar.
        shapes: in the order in which they were given; versions without answers are left out.
    """

    lower: float
    upper: float
    highest: float
    shapes: tuple[LatencyShape, ...]

    def place(self, seconds: float) -> float:
        """Where a latency lies on the axis: 0 is its beginning, 1 its end."""
        span = math.log(self.upper / self.lower)
        return min(max(math.log(max(seconds, self.lower) / self.lower) / span, 0.0), 1.0)


def panels(histograms: Mapping[str, Mapping[str, int]]) -> Panels | None:
    """Draw versions on a common axis.

    Args:
        histograms: counts by bin (see `latency`), by version. Live's and shadows' are not to be mixed: they are called
            from elsewhere, under other load.

    Returns:
        None where nobody answered.
    """
    counted = {version: _finite(levels) for version, levels in histograms.items()}
    drawn = [_drawn(bins) for bins in counted.values() if bins]
    if not drawn:
        return None
    first, last = min(low for low, _ in drawn), max(high for _, high in drawn)
    width = max(1, math.ceil((last - first + 1) / MOST_BARS))
    edges = range(first, last + 1, width)
    shapes = tuple(
        _shape(version, histograms[version], bins, edges, width) for version, bins in counted.items() if bins
    )
    return Panels(
        lower=_seconds(first),
        upper=_seconds(edges[-1] + width),
        highest=max(bar.share for shape in shapes for bar in shape.bars),
        shapes=shapes,
    )


def _finite(levels: Mapping[str, int]) -> dict[int, int]:
    return {int(level): count for level, count in levels.items() if level != latency.TIMED_OUT and count}


def _drawn(bins: Mapping[int, int]) -> tuple[int, int]:
    """The first bin, and the one that `DRAWN_SHARE` of the answers lie at or below."""
    total, below = sum(bins.values()), 0
    for place in sorted(bins):
        below += bins[place]
        if below >= DRAWN_SHARE * total:
            return min(bins), place
    raise ValueError("a histogram without answers has no bins to draw")


def _shape(
    version: str, levels: Mapping[str, int], bins: Mapping[int, int], edges: Sequence[int], width: int
) -> LatencyShape:
    n = sum(levels.values())
    counts = [sum(bins.get(place, 0) for place in range(edge, edge + width)) for edge in edges]
    p50, p95, p99 = (latency.percentile(levels, percent) or math.inf for percent in (50, 95, 99))
    return LatencyShape(
        version=version,
        n=n,
        timed_out=levels.get(latency.TIMED_OUT, 0),
        beyond=sum(bins.values()) - sum(counts),
        bars=tuple(
            Bar(lower=_seconds(edge), upper=_seconds(edge + width), share=count / n)
            for edge, count in zip(edges, counts, strict=True)
        ),
        p50=p50,
        p95=p95,
        p99=p99,
    )


def _seconds(place: int) -> float:
    return math.exp(place * latency.LOG_WIDTH) * latency.SHORTEST
