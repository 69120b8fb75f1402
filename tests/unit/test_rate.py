"""A token bucket."""

from __future__ import annotations

import pytest

from multishadow_server.core.rate import TokenBucket

FULL = TokenBucket(rate=10.0, tokens=10.0, at=100.0)


def test_it_gives_a_seconds_worth_at_once_and_then_as_fast_as_it_fills() -> None:
    bucket, wait = FULL.take(10, 100.0)
    assert (bucket.tokens, wait) == (0.0, 0.0)
    same, wait = bucket.take(5, 100.1)
    assert same.tokens == pytest.approx(1.0)
    assert wait == pytest.approx(0.4)
    assert same.take(5, 100.5)[1] == 0.0


def test_it_never_holds_more_than_a_seconds_worth() -> None:
    assert FULL.filled(1_000.0).tokens == 10.0


def test_who_asks_for_more_than_it_can_hold_pays_with_all_of_it() -> None:
    bucket, wait = FULL.take(1_000, 100.0)
    assert (bucket.tokens, wait) == (0.0, 0.0)
    assert bucket.take(1_000, 100.0)[1] == pytest.approx(1.0)


def test_a_clock_that_stands_still_or_slips_gives_nothing() -> None:
    empty, _ = FULL.take(10, 100.0)
    assert empty.filled(99.0).tokens == 0.0
