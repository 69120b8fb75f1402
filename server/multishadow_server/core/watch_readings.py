"""What is counted, read from time to time: two readings tell what happened between them.

A reading holds counts of recent time buckets as they stand, so it costs the same however long an experiment runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from multishadow_server.core.experiment import Epoch

# More would be read only by a worker that is hours behind, of which the alarm `lag` tells.
MOST_BUCKETS = 200
LEFT_OUT = ("live_failures", "writes.not_shadowed", "sampling.passed_over")
"""Counters of routers, of requests that nobody gets a copy of, or of which nothing is observed for a candidate."""


class BucketCell(NamedTuple):
    """One count of one time bucket: see `rollup` for families, subjects and levels."""

    epoch_id: int
    bucket: int
    family: str
    subject: str
    level: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was counted up to a point in time.

    Args:
        at: seconds since the Unix epoch.
        oldest: by epoch, the first time bucket that was read.
        cells: counts of those buckets.
        requests: live requests, by model.
        routers: counters of routers, by instance and name.
    """

    at: float
    oldest: Mapping[int, int] = field(default_factory=dict)
    cells: Mapping[BucketCell, int] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    routers: Mapping[tuple[str, str], int] = field(default_factory=dict)


def buckets_of(epoch: Epoch, *, now: float, back: float) -> tuple[int, ...]:
    """Starts of the time buckets in which something may still be counted, oldest first; all are times in seconds.

    Args:
        epoch: the epoch.
        now: seconds since the Unix epoch.
        back: how long ago a request may have been received that is counted now.
    """
    last = epoch.bucket_start(now)
    first = max(epoch.bucket_start(now - back), last - (MOST_BUCKETS - 1) * epoch.bucket_seconds)
    return tuple(range(first, last + 1, epoch.bucket_seconds))


def grown(
    before: Reading, after: Reading, epochs: Iterable[Epoch]
) -> Mapping[tuple[str, str], Counter[tuple[str, str]]]:
    """What was counted between two readings, by (model, version), then by (family, level).

    Args:
        before: the former reading; buckets that it did not look at do not count.
        after: the later one.
        epochs: those that count; one that opened after the first reading counts whole.
    """
    counts: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    known = {epoch.id: epoch for epoch in epochs if epoch.id in before.oldest or epoch.opened_at >= before.at}
    for epoch in known.values():
        for version in epoch.candidates:
            counts.setdefault((epoch.model, version), Counter())
    for cell, count in after.cells.items():
        epoch_or_none = known.get(cell.epoch_id)
        if epoch_or_none is None or cell.bucket < before.oldest.get(cell.epoch_id, 0):
            continue
        growth = count - before.cells.get(cell, 0)
        if growth > 0 and cell.subject in epoch_or_none.candidates:
            counts[epoch_or_none.model, cell.subject][cell.family, cell.level] += growth
    return counts


def requests_between(before: Reading, after: Reading, model: str) -> int:
    """Live requests of a model between two readings; counts of routers that are forgotten make it less, never more."""
    return max(0, after.requests.get(model, 0) - before.requests.get(model, 0))


def counted_by_routers(before: Reading, after: Reading) -> Mapping[str, Counter[str]]:
    """What routers counted between two readings, by instance and name. One that began anew counts from 0."""
    counts: dict[str, Counter[str]] = {}
    for (instance, name), count in after.routers.items():
        former = before.routers.get((instance, name), 0)
        counts.setdefault(instance, Counter())[name] += count - former if count >= former else count
    return counts
