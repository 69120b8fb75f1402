"""Which comparisons are stored."""

from __future__ import annotations

import random

import pytest

from multishadow_server.core.keeping import Keeper, Kept
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.sharing import fair_share

HOUR = 3_600.0
AGREED = (Observation(version="A", outcome=Outcome.OK),)
EXCLUDED = (Observation(version="A", outcome=Outcome.UNCOMPARABLE, reason="nan"),)


def bad(outcome: Outcome) -> tuple[Observation, ...]:
    return (*AGREED, Observation(version="B", outcome=outcome))


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.ERROR, Outcome.TIMEOUT])
def test_a_capture_on_which_any_shadow_was_bad_is_kept_until_the_quota_is_used_up(outcome: Outcome) -> None:
    keeper = Keeper(divergent_per_hour=3, sample_per_hour=0)
    kept = [keeper.choose(1, received_at=10.0, observations=bad(outcome), draw=0.9) for _ in range(5)]
    assert kept == [Kept.DIVERGED] * 3 + [None] * 2


def test_each_epoch_and_each_hour_has_a_quota_of_its_own() -> None:
    keeper = Keeper(divergent_per_hour=1, sample_per_hour=0)

    def choose(epoch: int, at: float) -> Kept | None:
        return keeper.choose(epoch, received_at=at, observations=bad(Outcome.DIVERGED), draw=0.5)

    assert choose(1, 0.0) is Kept.DIVERGED
    assert choose(1, HOUR - 1) is None
    assert choose(2, HOUR - 1) is Kept.DIVERGED
    assert choose(1, HOUR) is Kept.DIVERGED
    assert choose(1, HOUR - 2) is None, "a late capture counts in its own hour"


@pytest.mark.parametrize("observations", [AGREED, EXCLUDED])
def test_the_rest_is_sampled_and_never_above_its_quota(observations: tuple[Observation, ...]) -> None:
    dice = random.Random(1)
    keeper = Keeper(divergent_per_hour=0, sample_per_hour=20)
    kept = [
        keeper.choose(1, received_at=number * HOUR / 50_000, observations=observations, draw=dice.random())
        for number in range(50_000)
    ]
    assert 15 <= kept.count(Kept.SAMPLE) <= 20


def test_the_sample_is_spread_over_the_hour() -> None:
    dice = random.Random(2)
    quarters = [0, 0, 0, 0]
    for _ in range(100):
        keeper = Keeper(divergent_per_hour=0, sample_per_hour=10)
        for number in range(2_000):
            at = number * HOUR / 2_000
            if keeper.choose(1, received_at=at, observations=AGREED, draw=dice.random()):
                quarters[int(at // (HOUR / 4))] += 1
    # 250 each are expected; five standard deviations are 70.
    assert all(180 <= count <= 320 for count in quarters), quarters


def test_a_trickle_is_kept_whole() -> None:
    keeper = Keeper(divergent_per_hour=0, sample_per_hour=100)
    kept = [keeper.choose(1, received_at=at, observations=AGREED, draw=0.9) for at in range(600, 3600, 600)]
    # One comparison alone tells nothing about how many will follow.
    assert kept[1:] == [Kept.SAMPLE] * 4


def test_quotas_of_zero_keep_nothing() -> None:
    keeper = Keeper(divergent_per_hour=0, sample_per_hour=0)
    assert keeper.choose(1, received_at=0.0, observations=bad(Outcome.DIVERGED), draw=0.0) is None
    assert keeper.choose(1, received_at=0.0, observations=AGREED, draw=0.0) is None


@pytest.mark.parametrize(("total", "places"), [(8, 1), (8, 3), (3, 8), (0, 4), (100, 7)])
def test_fair_shares_add_up_and_differ_by_one_at_most(total: int, places: int) -> None:
    shares = [fair_share(total, place=place, places=places) for place in range(places)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
