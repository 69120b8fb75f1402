"""What a report and a tally cost: `python bench/report.py`.

Prints the CPU time of one report at 3 and 10 candidates over a week of hours, at ten thousand and at a billion
comparisons (the ratio should be about 1 or less), and the worker's per capture for counting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from multishadow_server.core import report
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.tally import Tally

CAPTURES = 10_000
GROWTH = 100_000
HOURS = 168
BATCH = 256


def main() -> None:
    """Measure and print."""
    for k in (3, 10):
        print(_measured(_epoch(k)))


def _measured(epoch: Epoch) -> str:
    captures = _captures(epoch, random.Random(1))
    hours = [_counts(epoch, captures[start::HOURS]) for start in range(HOURS)]
    larger = [Rollup({cell: count * GROWTH for cell, count in hour.cells.items()}) for hour in hours]
    rollup = sum(hours, Rollup())
    small = _milliseconds(partial(_report, epoch, rollup, _over_time(hours)))
    large = _milliseconds(partial(_report, epoch, sum(larger, Rollup()), _over_time(larger)))
    batch = _milliseconds(lambda: _tally(epoch, captures[:BATCH]).rollups())
    return (
        f"k={len(epoch.candidates):2}: report {small:.1f} ms at {CAPTURES:,} comparisons, {large:.1f} ms at "
        f"{CAPTURES * GROWTH:,} (ratio {large / small:.2f}), {len(rollup.cells):,} cells; "
        f"tally {batch / BATCH * 1000:.1f} µs per capture in batches of {BATCH}"
    )


def _epoch(k: int) -> Epoch:
    return Epoch(
        id=1,
        experiment_id=1,
        model="spam",
        number=1,
        live="prod",
        candidates=tuple("ABCDEFGHIJ"[:k]),
        comparator=Comparator(),
        from_revision=1,
        until_revision=None,
        opened_at=0.0,
        reason="started",
        bucket_seconds=3600,
    )


def _captures(epoch: Epoch, draw: random.Random) -> list[list[Observation]]:
    return [
        [
            _observation(version, diverged=draw.random() < 0.02 + 0.002 * place, draw=draw)
            for place, version in enumerate(epoch.candidates)
        ]
        for _ in range(CAPTURES)
    ]


def _observation(version: str, *, diverged: bool, draw: random.Random) -> Observation:
    return Observation(
        version=version,
        outcome=Outcome.DIVERGED if diverged else Outcome.OK,
        similarity=draw.uniform(0, 0.85) if diverged else draw.uniform(0.85, 1),
        latency=draw.lognormvariate(-4, 0.3),
        confidence_delta=draw.gauss(0, 0.05),
    )


def _tally(epoch: Epoch, captures: list[list[Observation]]) -> Tally:
    tally = Tally()
    for observations in captures:
        tally.add_capture(epoch, received_at=0.0, live_latency=0.01, observations=observations)
    return tally


def _counts(epoch: Epoch, captures: list[list[Observation]]) -> Rollup:
    (rollup,) = _tally(epoch, captures).rollups().values()
    return rollup


def _over_time(hours: list[Rollup]) -> list[Rollup]:
    """What control reads by hour."""
    families = (Family.PAIR, Family.OUTCOME)
    return [Rollup({cell: count for cell, count in hour.cells.items() if cell.family in families}) for hour in hours]


def _report(epoch: Epoch, rollup: Rollup, hours: list[Rollup]) -> report.Report:
    return report.build(rollup, model=epoch.model, live=epoch.live, candidates=epoch.candidates, buckets=hours)


def _milliseconds(work: Callable[[], object], *, rounds: int = 15) -> float:
    """The least CPU time of some rounds: what else runs on the machine only ever adds to it."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times) * 1000


if __name__ == "__main__":
    main()
