"""Rates of live requests, from counts that several routers save."""

from __future__ import annotations

import pytest

from multishadow_server.core.live_rates import Counted, LiveRates

R1, R2 = Counted("spam", "A", 5, "r1"), Counted("spam", "A", 5, "r2")
NONE = frozenset[Counted]()


def test_nothing_is_known_before_the_second_reading() -> None:
    rates = LiveRates()
    rates.note({R1: 1_000_000}, fresh=NONE, now=0.0)
    assert rates.per_second() == {}


def test_the_counts_of_all_routers_and_revisions_add_up() -> None:
    rates = LiveRates()
    rates.note({R1: 100, R2: 500}, fresh=NONE, now=0.0)
    rates.note({R1: 130, R2: 510}, fresh=NONE, now=2.0)
    assert rates.per_second() == {("spam", "A"): 20.0}
    later = Counted("spam", "A", 6, "r1")
    rates.note({R1: 130, R2: 510, later: 40}, fresh=frozenset({later}), now=4.0)
    assert rates.per_second() == {("spam", "A"): 20.0}


def test_a_router_that_comes_back_after_a_silence_is_no_flood() -> None:
    rates = LiveRates()
    rates.note({R1: 100}, fresh=NONE, now=0.0)
    rates.note({R1: 110, R2: 1_000_000}, fresh=NONE, now=1.0)
    assert rates.per_second() == {("spam", "A"): 10.0}


def test_a_rate_is_of_the_last_seconds() -> None:
    rates = LiveRates()
    for second in range(60):
        rates.note({R1: 100 * min(second, 30)}, fresh=NONE, now=float(second))
    assert rates.per_second() == {("spam", "A"): 0.0}
    for second in range(60, 65):
        rates.note({R1: 3_000 + 100 * (second - 59)}, fresh=NONE, now=float(second))
    assert rates.per_second()["spam", "A"] == pytest.approx(50.0)
