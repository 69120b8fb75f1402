"""How often candidates diverged, hour by hour, beside what was proven of their rates by then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multishadow_server.core import divergence_rates, rank_basis
from multishadow_server.core.findings import Interval
from multishadow_server.core.rollup import Tables
from multishadow_server.core.statistics import sequences
from multishadow_server.core.statistics.betting import Floats

HOUR = 3_600
# Weeks of hours, and then fewer and fewer of them.
MOST_PERIODS = 400
_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 24, 48, 168)


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """One candidate in one stretch of time.

    Args:
        n: comparisons that count.
        bad: those that diverged or failed.
        proven: what is proven of the rate at its end, by all comparisons so far; see `divergence_rates`.
    """

    n: int
    bad: int
    proven: Interval

    @property
    def rate(self) -> float | None:
        """Share of bad ones in it; None without any comparison."""
        return self.bad / self.n if self.n else None


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergenceCourse:
    """Divergence over time.

    Args:
        seconds: width of the periods: an hour, or more where there are many.
        starts: of the periods in which anything was compared, seconds since the Unix epoch.
        periods: by candidate, in the epoch's order; one for each of `starts`.
    """

    seconds: int
    starts: tuple[int, ...]
    periods: Mapping[str, tuple[Period, ...]]


def build(
    buckets: Mapping[int, Tables],
    *,
    versions: Sequence[str],
    bucket_seconds: int,
    alpha: float,
    most: int = MOST_PERIODS,
) -> DivergenceCourse:
    """The course of an epoch's divergence.

    Args:
        buckets: counts of outcomes by the start of the time bucket, seconds since the Unix epoch, oldest first.
        versions: the epoch's candidates, in its order.
        bucket_seconds: the buckets' width.
        alpha: as for the report; the last interval of each candidate is the report's.
        most: periods at most, as long as weeks are not too short for it.
    """
    starts = list(buckets)
    seconds = _width(starts, bucket_seconds, most)
    owners = [start // seconds * seconds for start in starts]
    if not starts:
        return DivergenceCourse(seconds=seconds, starts=(), periods=dict.fromkeys(versions, ()))
    counts: Floats = np.array([rank_basis.divergence(tables, versions) for tables in buckets.values()])
    lasts = _lasts(owners)
    lower, upper = _proven(counts, lasts, log_threshold=math.log(max(len(versions), 1) / alpha))
    so_far = np.cumsum(counts, axis=0)[lasts]
    own = np.diff(so_far, axis=0, prepend=np.zeros_like(so_far[:1]))
    return DivergenceCourse(
        seconds=seconds,
        starts=tuple(owners[last] for last in lasts),
        periods={
            version: tuple(
                Period(
                    n=int(n),
                    bad=int(bad),
                    proven=Interval(estimate=float(all_bad / max(all_n, 1)), lower=float(low), upper=float(high)),
                )
                for (bad, n), (all_bad, all_n), low, high in zip(
                    own[:, :, place], so_far[:, :, place], lower[:, place], upper[:, place], strict=True
                )
            )
            for place, version in enumerate(versions)
        },
    )


def _width(starts: Sequence[int], bucket_seconds: int, most: int) -> int:
    """The smallest width of whole hours and whole buckets that leaves at most so many periods."""
    smallest = max(HOUR, bucket_seconds)
    widths = [smallest * times for times in _WIDTHS]
    return next((width for width in widths if len({start // width for start in starts}) <= most), widths[-1])


def _lasts(owners: Iterable[int]) -> list[int]:
    """Places of the last bucket of each period."""
    return list({owner: place for place, owner in enumerate(owners)}.values())


def _proven(counts: Floats, lasts: Sequence[int], *, log_threshold: float) -> tuple[Floats, Floats]:
    """Bounds at the periods' ends, shapes (periods, k): each what a report at that time showed.

    A report looks back on `divergence_rates.looks` of the buckets and on the present, so it is the bounds of these that
    run, and each end adds its own.
    """
    looks = divergence_rates.looks(len(counts))
    at = sorted({*looks, *lasts})
    so_far = np.cumsum(counts, axis=0)[at]
    bad, n = so_far[:, 0], so_far[:, 1]
    lower, upper = sequences.rate(bad=bad, n=n, log_threshold=log_threshold)
    looked = np.isin(at, looks)[:, None]
    run_lower = np.maximum(np.maximum.accumulate(np.where(looked, lower, 0.0), axis=0), lower)
    run_upper = np.minimum(np.minimum.accumulate(np.where(looked, upper, 1.0), axis=0), upper)
    share = bad / np.maximum(n, 1)
    moved = (n > 0) & ((share < run_lower) | (share > run_upper))
    shown = np.isin(at, lasts)
    return np.where(moved, lower, run_lower)[shown], np.where(moved, upper, run_upper)[shown]
