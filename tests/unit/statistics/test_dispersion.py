"""Bursts show in how uneven a difference is over time."""

from __future__ import annotations

import numpy as np
import pytest

from multishadow_server.core.statistics import dispersion, evidence
from multishadow_server.core.statistics.betting import Floats
from multishadow_server.core.statistics.dispersion import Dispersion

HOURS = 168


def discordance(burst: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """A week of hours in which each independent event is seen `burst` times."""
    only_first, only_second = generator.poisson(30 / burst, size=(2, HOURS)).astype(float) * burst
    return only_first, only_second


def found_in(only_first: Floats, only_second: Floats) -> Dispersion:
    found = dispersion.dispersion(only_first, only_second)
    assert found is not None
    return found


def test_independent_requests_have_a_dispersion_of_one_and_hardly_ever_warn() -> None:
    generator = np.random.default_rng(1)
    found = [found_in(*discordance(1, generator)) for _ in range(1_000)]
    assert np.mean([each.ratio for each in found]) == pytest.approx(1, abs=0.01)
    assert sum(each.is_excessive for each in found) <= 3


def test_bursts_of_four_vary_four_times_as_much_and_warn() -> None:
    found = found_in(*discordance(4, np.random.default_rng(2)))
    assert found.ratio == pytest.approx(4, rel=0.35)
    assert found.is_excessive


@pytest.mark.parametrize(("first", "second"), [(0.02, 0.02), (0.04, 0.01), (0.001, 0.02)])
def test_neither_uneven_traffic_nor_a_steady_difference_looks_like_bursts(first: float, second: float) -> None:
    # A ramp of 1, 5 and 25 %, then days with nights in which nobody asks.
    traffic = np.concatenate([np.full(6, 40), np.full(6, 200), np.tile(np.repeat([1_000, 0], 12), 6)])
    generator = np.random.default_rng(6)
    found = [
        found_in(generator.poisson(traffic * first).astype(float), generator.poisson(traffic * second).astype(float))
        for _ in range(500)
    ]
    assert np.mean([each.ratio for each in found]) == pytest.approx(1, abs=0.03)
    assert sum(each.is_excessive for each in found) <= 3


def test_bursts_show_in_uneven_traffic_too() -> None:
    traffic = np.concatenate([np.full(6, 40), np.full(6, 200), np.full(60, 1_000)])
    generator = np.random.default_rng(7)
    only_first, only_second = (4 * generator.poisson(traffic * rate / 4).astype(float) for rate in (0.02, 0.01))
    found = found_in(only_first, only_second)
    assert found.ratio == pytest.approx(4, rel=0.35)
    assert found.is_excessive


def test_few_buckets_say_nothing_and_ten_do_not_cry_wolf() -> None:
    quiet = np.array([40.0, 2.0, 3.0])
    assert dispersion.dispersion(quiet, quiet[::-1]) is None
    assert dispersion.dispersion(np.zeros(100), np.ones(100) * 0.1) is None
    assert dispersion.dispersion(np.repeat([40.0, 0.0], [9, 50]), np.repeat([40.0, 0.0], [9, 50])) is None
    generator = np.random.default_rng(3)
    found = [found_in(*generator.poisson(30, size=(2, 10)).astype(float)) for _ in range(1_000)]
    assert sum(each.is_excessive for each in found) <= 5


def test_where_only_one_is_ever_bad_alone_nobody_can_tell() -> None:
    assert dispersion.dispersion(np.full(20, 5.0), np.zeros(20)) is None


def test_swapping_the_candidates_changes_nothing() -> None:
    only_first, only_second = discordance(2, np.random.default_rng(4))
    assert dispersion.dispersion(only_first, only_second) == dispersion.dispersion(only_second, only_first)


def false_claims(burst: int, *, counted: int, generator: np.random.Generator, runs: int = 1_000) -> float:
    """Share of runs that ever claim a difference of two equal candidates at 5 %, by looks every 500 requests.

    Each independent input comes `burst` times, and counts `counted` times.
    """
    only_first, only_second, ever = np.zeros(runs), np.zeros(runs), np.zeros(runs, dtype=bool)
    for _ in range(100):
        only_first += counted * generator.binomial(500 // burst, 0.03 * 0.97, runs)
        only_second += counted * generator.binomial(500 // burst, 0.03 * 0.97, runs)
        log_e = evidence.log_two_sided(
            evidence.log_evidence(only_first, only_second), evidence.log_evidence(only_second, only_first)
        )
        ever |= log_e >= np.log(20)
    return float(ever.mean())


def test_bursts_make_false_claims_and_counting_an_input_once_does_not() -> None:
    generator = np.random.default_rng(5)
    assert false_claims(2, counted=2, generator=generator) > 0.15
    assert false_claims(10, counted=10, generator=generator) > 0.9
    for burst in (1, 2, 10):
        assert false_claims(burst, counted=1, generator=generator) <= 0.04
