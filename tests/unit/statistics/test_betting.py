"""The wealth of a bettor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import beta
from scipy.stats import multinomial

from multishadow_server.core.statistics.betting import log_wealth, log_wealth_and_slope


def wealth_by_quad(m: float, plus: int, minus: int, zero: int) -> float:
    def integrand(u: float) -> float:
        prior = (1 - u * u) ** 9 / (0.5 * beta(0.5, 10))
        stake = u / (1 + m)
        return float((1 + stake * (1 - m)) ** plus * (1 - stake * m) ** zero * (1 - u) ** minus * prior)

    return float(quad(integrand, 0, 1, epsabs=0, epsrel=1e-12, limit=500)[0])


@pytest.mark.parametrize(
    ("m", "plus", "minus", "zero"),
    [(0.0, 0, 0, 0), (0.0, 60, 30, 0), (0.01, 60, 30, 500), (-0.3, 3, 8, 20), (0.9, 9, 0, 2), (-0.9, 1, 4, 7)],
)
def test_wealth_agrees_with_adaptive_integration(m: float, plus: int, minus: int, zero: int) -> None:
    expected = math.log(wealth_by_quad(m, plus, minus, zero))
    assert float(log_wealth(m, plus=plus, minus=minus, zero=zero)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("m", [-0.4, 0.0, 0.15])
def test_wealth_is_expected_to_stay_one_when_the_mean_is_m(m: float) -> None:
    n, discordant = 12, 0.6
    chances = [(discordant + m) / 2, (discordant - m) / 2, 1 - discordant]
    outcomes = np.array([(b, c, n - b - c) for b in range(n + 1) for c in range(n + 1 - b)])
    wealth = np.exp(log_wealth(m, plus=outcomes[:, 0], minus=outcomes[:, 1], zero=outcomes[:, 2]))
    assert float(np.sum(multinomial.pmf(outcomes, n, chances) * wealth)) == pytest.approx(1, abs=1e-11)


@pytest.mark.parametrize(("plus", "minus", "zero"), [(40, 30, 900), (400_000, 300_000, 10**9), (1, 0, 50)])
def test_the_slope_is_the_derivative(plus: int, minus: int, zero: int) -> None:
    mu = 1 + (plus - minus) / (plus + minus + zero) - 2 / math.sqrt(plus + minus + zero)
    step = 1e-6

    def at(log_mu: float) -> float:
        mu = math.exp(log_mu)
        return float(log_wealth_and_slope(mu, mu - 1, plus=plus, minus=minus, zero=zero)[0])

    slope = float(log_wealth_and_slope(mu, mu - 1, plus=plus, minus=minus, zero=zero)[1])
    difference = (at(math.log(mu) + step) - at(math.log(mu) - step)) / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-4)
