"""A rate that is kept to, with points in time as arguments."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core.debt_bucket import DebtBucket


def uses(bucket: DebtBucket, *, seconds: float, step: float, units: float = 1.0) -> int:
    """How many uses get through when one is tried at every step."""
    through = 0
    for tick in range(round(seconds / step)):
        if not bucket.wait(tick * step):
            bucket.take(units)
            through += 1
    return through


def test_what_a_second_saved_up_gets_through_at_once_and_then_the_rate() -> None:
    assert uses(DebtBucket(10, now=0.0), seconds=10, step=0.01) == 10 + 10 * 10 - 1


def test_a_use_may_be_let_through_ahead_of_its_time_and_the_next_one_waits_for_longer() -> None:
    bucket = DebtBucket(2, now=0.0)
    waits = []
    for _ in range(5):
        waits.append(bucket.wait(0.0))
        bucket.take(1)
    assert waits == [0.0, 0.0, 0.5, 1.0, 1.5]


def test_a_use_larger_than_the_bucket_gets_through_and_leaves_a_debt() -> None:
    bucket = DebtBucket(1_000, now=0.0)
    assert bucket.wait(0.0) == 0
    bucket.take(5_000)
    assert bucket.wait(0.0) == 4.001
    assert bucket.wait(4.0) == 0.001
    assert bucket.wait(4.001) == 0


def test_less_than_one_a_second_still_gets_one_through() -> None:
    assert uses(DebtBucket(0.5, now=0.0), seconds=20, step=0.1) == 10


def test_a_rate_of_nothing_lets_nothing_through_ever() -> None:
    bucket = DebtBucket(0, now=0.0)
    assert math.isinf(bucket.wait(0.0))
    assert math.isinf(bucket.wait(1e9))


def test_another_rate_forgives_no_debt_and_saves_up_no_more_than_it_holds() -> None:
    bucket = DebtBucket(10, now=0.0)
    bucket.take(20)
    bucket.set_rate(100, now=0.0)
    assert bucket.wait(0.0) == 0.11
    bucket.set_rate(1, now=10.0)
    assert bucket.wait(10.0) == 0
    bucket.take(1)
    assert bucket.wait(10.0) == 1


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = DebtBucket(1, now=5.0)
    bucket.take(1)
    assert bucket.wait(1.0) == 1
    assert bucket.wait(6.0) == 0


@given(
    rate=st.floats(min_value=0.1, max_value=1_000),
    gaps=st.lists(st.tuples(st.floats(min_value=0, max_value=2), st.floats(min_value=0.5, max_value=50)), max_size=80),
)
def test_never_more_gets_through_than_the_rate_a_burst_and_one_use(
    rate: float, gaps: list[tuple[float, float]]
) -> None:
    bucket, now, used, last = DebtBucket(rate, now=0.0), 0.0, 0.0, 0.0
    for gap, units in gaps:
        now += gap
        if not bucket.wait(now):
            bucket.take(units)
            used, last = used + units, units
    assert used <= rate * now + max(rate, 1.0) + last + 1e-6
