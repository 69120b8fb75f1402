"""Who gets a copy when not everything may be sent: by a draw that versions share, and never by size."""

from __future__ import annotations

import random

import pytest

from multishadow_server.core.admission import LONGEST_WAIT, Admission
from multishadow_server.core.debt_bucket import DebtBucket
from multishadow_server.core.withheld import BANDWIDTH, BUDGET, RATE_LIMIT


def sent(
    rates: dict[str, float], *, per_second: float, seconds: float, size: int = 100, seed: int = 1
) -> tuple[set[int], dict[str, int]]:
    """Numbers of the requests that are sent of a steady stream, once it is known; and refusals by reason."""
    draws = random.Random(seed)
    admission, through, refused = Admission(), set[int](), dict[str, int]()
    admission.set_rates(rates, now=0.0)
    for number in range(round(per_second * seconds)):
        now, draw = number / per_second, draws.random()
        verdict = admission.ask(size=size, draw=draw, now=now)
        assert verdict.wait <= LONGEST_WAIT
        if now < seconds / 2:
            continue
        if verdict.refused:
            refused[verdict.refused] = refused.get(verdict.refused, 0) + 1
        else:
            through.add(number)
    return through, refused


def test_less_than_the_rate_is_sent_whole() -> None:
    through, refused = sent({RATE_LIMIT: 100}, per_second=90, seconds=20)
    assert (len(through), refused) == (900, {})


def test_more_than_the_rate_is_cut_to_the_rate() -> None:
    through, refused = sent({RATE_LIMIT: 50}, per_second=200, seconds=40)
    assert 0.85 * 50 * 20 < len(through) <= 50 * 20
    assert len(through) + refused[RATE_LIMIT] == 200 * 20


def test_whoever_may_be_asked_less_gets_what_the_others_get_too() -> None:
    few, _ = sent({RATE_LIMIT: 20}, per_second=1_000, seconds=40)
    more, _ = sent({RATE_LIMIT: 27}, per_second=1_000, seconds=40)
    assert len(more) > 1.3 * len(few)
    assert len(few & more) > 0.99 * len(few)


def test_buckets_alone_would_give_versions_nearly_disjoint_requests() -> None:
    arrivals, now = random.Random(3), 0.0
    buckets = DebtBucket(20, now=0.0), DebtBucket(27, now=0.0)
    through: tuple[set[int], set[int]] = (set(), set())
    for number in range(40_000):
        now += arrivals.expovariate(1_000)
        for bucket, its in zip(buckets, through, strict=True):
            if not bucket.wait(now):
                bucket.take(1)
                its.add(number)
    assert len(through[0] & through[1]) < 0.15 * len(through[0])


def test_the_tightest_rate_decides_and_is_named() -> None:
    assert set(sent({RATE_LIMIT: 100, BUDGET: 20}, per_second=200, seconds=20)[1]) == {BUDGET}
    assert set(sent({RATE_LIMIT: 20, BUDGET: 100}, per_second=200, seconds=20)[1]) == {RATE_LIMIT}
    assert set(sent({RATE_LIMIT: 150, BANDWIDTH: 2_000}, per_second=200, seconds=40)[1]) == {BANDWIDTH}


def test_bytes_are_kept_to_and_the_size_of_a_request_has_no_say_in_whether_it_is_sent() -> None:
    draws = random.Random(2)
    admission = Admission()
    admission.set_rates({BANDWIDTH: 10_000}, now=0.0)
    offered, through = {100: 0, 1_900: 0}, {100: 0, 1_900: 0}
    for number in range(100 * 120):
        size = draws.choice((100, 1_900))
        verdict = admission.ask(size=size, draw=draws.random(), now=number / 100)
        offered[size] += 1
        through[size] += not verdict.refused
    assert sum(size * count for size, count in through.items()) <= 10_000 * 123
    shares = [through[size] / offered[size] for size in offered]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)


def test_nothing_is_sent_where_callers_leave_nothing_and_it_begins_again_when_they_do() -> None:
    admission = Admission()
    admission.set_rates({BUDGET: 0.0}, now=0.0)
    assert admission.ask(size=1, draw=0.0, now=0.0).refused == BUDGET
    admission.set_rates({BUDGET: 5.0}, now=1.0)
    assert not admission.ask(size=1, draw=0.0, now=2.0).refused


def test_a_burst_waits_for_its_turn_and_what_would_wait_too_long_is_refused() -> None:
    admission = Admission()
    admission.set_rates({RATE_LIMIT: 10}, now=0.0)
    verdicts = [admission.ask(size=1, draw=0.0, now=0.0) for _ in range(40)]
    assert [verdict.wait for verdict in verdicts[:10]] == [0.0] * 10
    assert [round(verdict.wait, 6) for verdict in verdicts[10:13]] == [0.1, 0.2, 0.3]
    assert sum(not verdict.refused for verdict in verdicts) == 10 + 10 * LONGEST_WAIT
    assert {verdict.refused for verdict in verdicts[-5:]} == {RATE_LIMIT}


def test_a_limit_that_is_taken_away_limits_no_longer() -> None:
    admission = Admission()
    admission.set_rates({RATE_LIMIT: 1}, now=0.0)
    for _ in range(100):
        admission.ask(size=1, draw=0.5, now=0.0)
    admission.set_rates({}, now=0.0)
    assert not admission.ask(size=1, draw=0.99, now=0.0).refused
