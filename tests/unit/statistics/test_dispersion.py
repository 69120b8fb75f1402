"""Bursts show in how uneven a difference is over time."""

from __future__ import annotations

import numpy as np
import pytest

from multishadow_server.core.statistics import dispersion, evidence
from multishadow_server.core.statistics.betting import Floats

HOURS = 168


def discordance(burst: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """A week of hours in which each independent event is seen `burst` times."""
    only_first, only_second = generator.poisson(30 / burst, size=(2, HOURS)).astype(float) * burst
    return only_first, only_second


def test_independent_requests_have_a_dispersion_of_one_and_hardly_ever_warn() -> None:
    generator = np.random.default_rng(1)
    ratios = [dispersion.dispersion(*discordance(1, generator)) for _ in range(1_000)]
    found = np.array([ratio for ratio in ratios if ratio is not None])
    assert len(found) == 1_000
    assert found.mean() == pytest.approx(1, abs=0.01)
    assert sum(dispersion.is_excessive(ratio, buckets=HOURS) for ratio in found) <= 3


def test_bursts_of_four_vary_four_times_as_much_and_warn() -> None:
    generator = np.random.default_rng(2)
    ratio = dispersion.dispersion(*discordance(4, generator))
    assert ratio is not None
    assert ratio == pytest.approx(4, rel=0.35)
    assert dispersion.is_excessive(ratio, buckets=HOURS)


def test_few_buckets_say_nothing_and_ten_do_not_cry_wolf() -> None:
    quiet = np.array([40.0, 2.0, 3.0])
    assert dispersion.dispersion(quiet, quiet[::-1]) is None
    assert dispersion.dispersion(np.zeros(100), np.ones(100) * 0.1) is None
    generator = np.random.default_rng(3)
    warned = 0
    for _ in range(1_000):
        only_first, only_second = generator.poisson(30, size=(2, 10)).astype(float)
        ratio = dispersion.dispersion(only_first, only_second)
        assert ratio is not None
        warned += dispersion.is_excessive(ratio, buckets=10)
    assert warned <= 5


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
