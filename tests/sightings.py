"""Rollups from outcome patterns: `{"obx": 40}` is forty captures on which A was ok, B diverged, C was uncomparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.tally import Tally

NOON = 1_700_000_000.0
LIVE_LATENCY = 0.010

_OUTCOMES = {
    "o": Outcome.OK,
    "b": Outcome.DIVERGED,
    "e": Outcome.ERROR,
    "t": Outcome.TIMEOUT,
    "x": Outcome.UNCOMPARABLE,
    "d": Outcome.DROPPED,
    "r": Outcome.DUPLICATE,
}
_REASONS = {"e": "UNAVAILABLE", "x": "dimension_mismatch", "d": "overloaded"}
_SIMILARITIES = {"o": 1.0, "b": 0.25, "e": 0.0, "t": 0.0}
_LATENCIES = {"o": 0.020, "b": 0.020, "x": 0.020, "e": 0.001}


def an_epoch(candidates: Sequence[str] = ("A", "B", "C"), *, number: int = 1, bucket_seconds: int = 3600) -> Epoch:
    """An epoch of model spam, with prod live."""
    return Epoch(
        id=number,
        experiment_id=1,
        model="spam",
        number=number,
        live="prod",
        candidates=tuple(candidates),
        comparator=Comparator(),
        from_revision=1,
        until_revision=None,
        opened_at=NOON,
        reason="started",
        bucket_seconds=bucket_seconds,
    )


def seen(candidates: Sequence[str], pattern: str) -> list[Observation]:
    """One capture's observations; `u` in the pattern leaves the candidate unsampled."""
    return [
        Observation(
            version=version,
            outcome=_OUTCOMES[letter],
            reason=_REASONS.get(letter, ""),
            similarity=_SIMILARITIES.get(letter),
            latency=_LATENCIES.get(letter),
        )
        for version, letter in zip(candidates, pattern, strict=True)
        if letter != "u"
    ]


def rollup_of(candidates: Sequence[str], patterns: Mapping[str, int]) -> Rollup:
    """Counts of an epoch in which each pattern occurred so many times."""
    epoch, total = an_epoch(candidates), Rollup()
    for pattern, count in patterns.items():
        tally = Tally()
        tally.add_capture(epoch, received_at=NOON, live_latency=LIVE_LATENCY, observations=seen(candidates, pattern))
        (once,) = tally.rollups().values()
        total += Rollup({cell: count * number for cell, number in once.cells.items()})
    return total
