"""A report does not depend on how the counts that it is made from were split and merged."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from multishadow_server.core import report
from multishadow_server.core.report import Report
from multishadow_server.core.rollup import Rollup
from multishadow_server.core.tally import Tally
from sightings import LIVE_LATENCY, NOON, an_epoch, seen

ABC = ("A", "B", "C")
HOUR = 3_600
patterns = st.text("obetxdru", min_size=3, max_size=3)
captures = st.lists(st.tuples(st.integers(0, 3), patterns), min_size=1, max_size=60)


@settings(max_examples=40)
@given(captures, st.integers(1, 9), st.randoms(use_true_random=False))
def test_any_order_and_any_split_of_the_captures_gives_the_same_report(
    captures: list[tuple[int, str]], batches: int, random: Random
) -> None:
    shuffled = random.sample(captures, len(captures))
    assert _report([shuffled[start::batches] for start in range(batches)]) == _report([captures])


@given(captures, captures)
def test_other_captures_give_another_report(one: list[tuple[int, str]], other: list[tuple[int, str]]) -> None:
    counted = [sum(letter in "obet" for _, pattern in captures for letter in pattern) for captures in (one, other)]
    if counted[0] != counted[1]:
        assert _report([one]) != _report([other])


def _report(batches: Sequence[Sequence[tuple[int, str]]]) -> Report:
    """As a worker counts micro-batches, the store adds them up by time bucket, and control sums the buckets."""
    buckets: dict[int, Rollup] = {}
    for batch in batches:
        tally = Tally()
        for hour, pattern in batch:
            tally.add_capture(
                an_epoch(ABC),
                received_at=NOON + hour * HOUR,
                live_latency=LIVE_LATENCY,
                observations=seen(ABC, pattern),
            )
        for (_, start), rollup in tally.rollups().items():
            buckets[start] = buckets.get(start, Rollup()) + rollup
    ordered = [buckets[start] for start in sorted(buckets)]
    whole = sum(ordered, Rollup())
    return report.build(whole, model="spam", live="prod", candidates=ABC, buckets=ordered)
