"""Weeks of counts, hour by hour, and what is read of an epoch with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from multishadow_server.core import report, week_counts, weekly_report
from multishadow_server.core.cost import Estimate
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.gates import Review
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.tally import Tally
from multishadow_server.core.weekly_report import Case, EpochWeek, LiveWeek, Material, WeeklyReport
from multishadow_server.core.weeks import Week
from sightings import LIVE_LATENCY, an_epoch, seen

WEEK = Week(2026, 47)
MONDAY = WEEK.starts_at
HOUR = 3_600
DAY = 24 * HOUR
LIVE = LiveWeek(requests=1_209_600, seconds=7 * DAY)

Hour = Callable[[int], Mapping[tuple[str, str], int]]
"""What was seen in an hour of a week, counted from 0: how often each (pattern, kind of request)."""


def epoch_of(candidates: Sequence[str], *, opened_at: float = MONDAY, **more: Any) -> Epoch:
    """An epoch of that week."""
    return replace(an_epoch(candidates), opened_at=opened_at, ends_at=MONDAY + 14 * DAY, **more)


def experiment_of(candidates: Sequence[str], **more: Any) -> Experiment:
    """Its experiment, of two weeks, at a quarter of the requests."""
    values: dict[str, Any] = {
        "id": 1,
        "model": "spam",
        "candidates": tuple(candidates),
        "percent": 25.0,
        "bucket_seconds": HOUR,
        "started_at": float(MONDAY),
        "ends_at": float(MONDAY + 14 * DAY),
        "started_by": "ada",
    }
    return Experiment(**values | more)


def hourly(candidates: Sequence[str], hour: Hour, *, hours: int = 7 * 24, first: int = 0) -> dict[int, Rollup]:
    """Counts by the hour, as workers count them; `first` is the hour, counted from the week's beginning."""
    epoch, rollups = epoch_of(candidates), dict[int, Rollup]()
    once: dict[tuple[str, str, int], Rollup] = {}
    for number in range(first, first + hours):
        start, total = MONDAY + number * HOUR, Rollup()
        for (pattern, kind), count in hour(number).items():
            key = (pattern, kind, number % 24)
            if key not in once:
                tally = Tally()
                tally.add_capture(
                    epoch,
                    received_at=start,
                    live_latency=LIVE_LATENCY,
                    observations=seen(candidates, pattern),
                    segments=(f"hour (UTC)={number % 24:02}", *((kind,) if kind else ())),
                )
                (once[key],) = tally.rollups().values()
            total += Rollup({cell: count * each for cell, each in once[key].cells.items()})
        if total.cells:
            rollups[start] = total
    return rollups


def times(rollups: Mapping[int, Rollup], factor: int) -> dict[int, Rollup]:
    """The same week with so many times the requests."""
    return {
        start: Rollup({cell: count * factor for cell, count in rollup.cells.items()})
        for start, rollup in rollups.items()
    }


def material(
    candidates: Sequence[str],
    rollups: Mapping[int, Rollup],
    *,
    cases: Mapping[str, Sequence[Case]] | None = None,
    reviews: Sequence[Review] = (),
    cost: Estimate | None = None,
    epoch: Epoch | None = None,
) -> Material:
    """What is read of an epoch with these counts."""
    kept = set(week_counts.FAMILIES)
    return Material(
        experiment=experiment_of(candidates),
        epoch=epoch or epoch_of(candidates),
        rollups={
            start: Rollup({cell: n for cell, n in rollup.cells.items() if cell.family in kept})
            for start, rollup in rollups.items()
        },
        report=report.build(
            sum(rollups.values(), Rollup()),
            model="spam",
            live="prod",
            candidates=candidates,
            buckets=rollups.values(),
        ),
        reviews=reviews,
        cases=cases or {},
        cost=cost,
    )


def week_of(
    candidates: Sequence[str], rollups: Mapping[int, Rollup], *, now: float = MONDAY + 7 * DAY + 6 * HOUR, **more: Any
) -> WeeklyReport:
    """The report on a week with these counts."""
    return weekly_report.build(
        model="spam", week=WEEK, materials=[material(candidates, rollups, **more)], live=LIVE, now=now
    )


def only_epoch(found: WeeklyReport) -> EpochWeek:
    """The epoch of a report that has one."""
    (epoch,) = found.epochs
    return epoch


def noise(diverged: int, ok: int) -> Rollup:
    """The live version asked again."""
    return Rollup({Cell(Family.OUTCOME, "noise", "diverged"): diverged, Cell(Family.OUTCOME, "noise", "ok"): ok})
