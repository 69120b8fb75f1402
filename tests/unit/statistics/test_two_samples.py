"""How much larger one rate is than another, seen again and again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from multishadow_server.core.statistics import sequences, two_samples
from multishadow_server.core.statistics.two_samples import Rate

ALPHA = 0.05


def test_the_difference_holds_its_estimate_and_mirrors() -> None:
    first, second = Rate(bad=90, n=3_000), Rate(bad=40, n=2_000)
    found = two_samples.difference(first, second, log_threshold=math.log(2 / ALPHA))
    assert found.estimate == pytest.approx(0.01)
    assert found.lower < 0.01 < found.upper
    mirrored = two_samples.difference(second, first, log_threshold=math.log(2 / ALPHA))
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower))


def test_without_requests_nothing_is_known() -> None:
    found = two_samples.difference(Rate(bad=0, n=0), Rate(bad=0, n=0), log_threshold=math.log(2 / ALPHA))
    assert (found.lower, found.upper) == (-1.0, 1.0)


@pytest.mark.parametrize(("first", "second"), [(0.02, 0.02), (0.03, 0.02), (0.3, 0.3)])
def test_the_true_difference_is_hardly_ever_left_out_at_any_look(first: float, second: float) -> None:
    """400 runs of 5,000 requests to each, looked at every 100: at most α of them may miss it, ever."""
    chance = np.random.default_rng(11)
    looks = np.arange(100, 5_001, 100)
    bad = [chance.random((400, 5_000)) < rate for rate in (first, second)]
    counts = [np.cumsum(each, axis=1)[:, looks - 1].astype(float) for each in bad]
    n = np.broadcast_to(looks.astype(float), counts[0].shape)
    one, other = (sequences.rate(bad=each.ravel(), n=n.ravel(), log_threshold=math.log(2 / ALPHA)) for each in counts)
    missed = (one[0] - other[1] > first - second) | (one[1] - other[0] < first - second)
    assert missed.reshape(counts[0].shape).any(axis=1).mean() <= ALPHA
