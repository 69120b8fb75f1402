"""What became of a candidate's copies in a week, from an epoch's counts by time bucket."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multishadow_server.core import segment_report
from multishadow_server.core.findings import Interval
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollup import Family, Rollup, Tables
from multishadow_server.core.statistics import sequences
from multishadow_server.core.weeks import Week

FAMILIES: Sequence[Family] = (
    Family.OUTCOME,
    Family.UNCOMPARABLE_REASON,
    Family.DROPPED_REASON,
    Family.ERROR_REASON,
    Family.SLOW,
    Family.LIVE,
    *segment_report.FAMILIES,
)
"""What a weekly report reads by time bucket."""
DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Categories:
    """What became of every copy: each is in one category, so that they add up to what was observed.

    Args:
        agreed: answers that agree with the live one, and came in time.
        slow: answers that agree, and took more than `latency.SLOW` times as long as live's.
        disagreed: predictions that disagree, quick or slow.
        timeout: calls that took too long altogether.
        error: calls that failed.
        uncomparable: pairs of answers that cannot be compared.
        dropped: copies that were never sent.
        duplicate: copies that were not sent, because one of the same input counts already.
        disagreed_slowly: of `disagreed`, those that were slow, too.
    """

    agreed: int = 0
    slow: int = 0
    disagreed: int = 0
    timeout: int = 0
    error: int = 0
    uncomparable: int = 0
    dropped: int = 0
    duplicate: int = 0
    disagreed_slowly: int = 0

    @property
    def observed(self) -> int:
        """Every copy, whatever became of it."""
        return self.compared + self.uncomparable + self.dropped + self.duplicate

    @property
    def compared(self) -> int:
        """n: those that count."""
        return self.agreed + self.slow + self.bad

    @property
    def bad(self) -> int:
        """S: those that diverged or failed (intention to treat)."""
        return self.disagreed + self.failed

    @property
    def failed(self) -> int:
        """Calls without an answer."""
        return self.timeout + self.error

    @property
    def answered(self) -> int:
        """Calls that gave an answer."""
        return self.agreed + self.slow + self.disagreed + self.uncomparable


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A divergence rate over some time, with what it is from.

    Args:
        bad, n: S and n.
        interval: valid at every look; None while n = 0.
    """

    bad: int
    n: int
    interval: Interval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One day's rate; `starts_at` in seconds since the Unix epoch, 00:00 UTC."""

    starts_at: int
    rate: Rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """One time bucket of an epoch, ready to be read.

    Args:
        starts_at: seconds since the Unix epoch.
        tables: its counts.
    """

    starts_at: int
    tables: Tables


def buckets_of(rollups: Mapping[int, Rollup]) -> tuple[Bucket, ...]:
    """Oldest first."""
    return tuple(Bucket(starts_at=start, tables=rollups[start].tables()) for start in sorted(rollups))


def within(buckets: Iterable[Bucket], since: float, until: float) -> tuple[Bucket, ...]:
    """Those that start in that time; a bucket belongs to the week in which it starts."""
    return tuple(bucket for bucket in buckets if since <= bucket.starts_at < until)


def of_week(buckets: Iterable[Bucket], week: Week) -> tuple[Bucket, ...]:
    """Those of a week."""
    return within(buckets, week.starts_at, week.ends_at)


def summed(buckets: Iterable[Bucket], family: Family, subject: str) -> Counter[str]:
    """Counts by level."""
    total: Counter[str] = Counter()
    for bucket in buckets:
        total.update(bucket.tables.get((family, subject), {}))
    return total


def categories(buckets: Iterable[Bucket], version: str) -> Categories:
    """What became of a candidate's copies in these buckets."""
    buckets = tuple(buckets)
    outcomes, slow = summed(buckets, Family.OUTCOME, version), summed(buckets, Family.SLOW, version)
    return Categories(
        agreed=outcomes[Outcome.OK] - slow[Outcome.OK],
        slow=slow[Outcome.OK],
        disagreed=outcomes[Outcome.DIVERGED],
        timeout=outcomes[Outcome.TIMEOUT],
        error=outcomes[Outcome.ERROR],
        uncomparable=outcomes[Outcome.UNCOMPARABLE],
        dropped=outcomes[Outcome.DROPPED],
        duplicate=outcomes[Outcome.DUPLICATE],
        disagreed_slowly=slow[Outcome.DIVERGED],
    )


def rates(counts: Sequence[tuple[int, int]], *, log_threshold: float) -> tuple[Rate, ...]:
    """Rates of (S, n), each with its interval; see `sequences.rate`."""
    bad, n = np.array(counts, dtype=float).reshape(len(counts), 2).T
    lower, upper = sequences.rate(bad=bad, n=n, log_threshold=log_threshold)
    return tuple(
        Rate(
            bad=own_bad,
            n=own_n,
            interval=Interval(estimate=own_bad / own_n, lower=float(low), upper=float(high)) if own_n else None,
        )
        for (own_bad, own_n), low, high in zip(counts, lower, upper, strict=True)
    )


def days(buckets: Iterable[Bucket], version: str, week: Week, *, log_threshold: float) -> tuple[Day, ...]:
    """A candidate's rate on each day of a week on which anything counted."""
    counts = {week.starts_at + place * DAY: (0, 0) for place in range(7)}
    for bucket in of_week(buckets, week):
        start = bucket.starts_at // DAY * DAY
        found = categories([bucket], version)
        bad, n = counts[start]
        counts[start] = (bad + found.bad, n + found.compared)
    some = {start: pair for start, pair in counts.items() if pair[1]}
    if not some:
        return ()
    found_rates = rates(list(some.values()), log_threshold=log_threshold)
    return tuple(Day(starts_at=start, rate=rate) for start, rate in zip(some, found_rates, strict=True))


def log_threshold(candidates: int, alpha: float) -> float:
    """Ln of the evidence that refutes a rate: k/α."""
    return math.log(max(candidates, 1) / alpha)
