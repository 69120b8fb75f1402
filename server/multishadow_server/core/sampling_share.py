"""How much of the sampling that flags ask for a router does, when workers do not keep up.

The share follows what presses, and so finds its own balance: with workers that manage a quarter of what flags ask for,
the oldest capture of the log becomes four times as old as the bound, and the share a quarter. It falls at once and
rises by steps.

Which requests are left out is drawn by session or request id, by a draw of its own: a request that flags sample with
the share f is captured with the probability f·s. One draw for all versions, so that the samples still nest; by session,
so that sessions stay whole; and the same whatever s is, so that a larger share only adds to a smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core import targeting

COUNTER = "sampling_permille"
"""The counter by which a router tells its share, in thousandths, while it is not all."""
SMALLEST_SHARE = 0.01
"""Never nothing: only captures show whether workers keep up again."""
RISE = 1.1
"""Largest factor between two looks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pressure:
    """What a router sees of the way of its captures to the workers.

    Args:
        lag: age of the oldest capture in the log, in seconds; None when the log cannot be asked.
        fill: share of the log's size that is in use; None likewise.
        buffer: share of the router's own buffer that is in use.
        refused: whether the log said that it is full.
    """

    lag: float | None
    fill: float | None
    buffer: float
    refused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What captures may come to before the sampling is lowered.

    Args:
        lag: seconds.
        fill: share of the log, and of the buffer, in (0, 1).
    """

    lag: float
    fill: float


def target(pressure: Pressure, bounds: Bounds) -> float:
    """The share that fits the pressure, in [SMALLEST_SHARE, 1]."""
    if pressure.refused:
        return SMALLEST_SHARE
    share = min(_room(pressure.buffer, bounds.fill), _room(pressure.fill or 0.0, bounds.fill))
    if pressure.lag is not None and pressure.lag > bounds.lag:
        share = min(share, bounds.lag / pressure.lag)
    return max(SMALLEST_SHARE, share)


def following(share: float, pressure: Pressure, bounds: Bounds) -> float:
    """The share after one more look: down at once, up by a step at most; not up while nobody knows how the log is."""
    wanted = target(pressure, bounds)
    if wanted <= share:
        return wanted
    return share if pressure.lag is None else min(wanted, RISE * share)


def draw(model: str, *, session_id: str, request_id: str) -> float:
    """The draw in [0, 1) of a session or a request, for all versions; captured iff it is below the share."""
    # No model's name has a colon: the draw has nothing to do with the one that flags sample by.
    return targeting.shadow_draw(f"{model}:sampling", session_id=session_id, request_id=request_id)


def _room(used: float, bound: float) -> float:
    """1 up to the bound, and 0 when all is used."""
    return 1.0 if used <= bound else max(0.0, (1.0 - used) / (1.0 - bound))
