"""The wealth of a bettor against "the mean difference is at most m", with the stake mixed over a prior.

Scores are x = 1, 0, -1 (only the first bad; both or neither; only the second). Betting the share u of the wealth on
x > m multiplies it by 1 + u (x - m)/(m + 1), whose mean is at most 1 when the mean of x is at most m. Mixed over u:

    W(m) = ∫₀¹ (1 + u (1-m)/(1+m))^plus (1 - u m/(1+m))^zero (1 - u)^minus g(u) du
    g(u) = (1 - u²)^(a-1) / (½ B(½, a)),  a = 10

The integrand is log-concave in u, so it has one mode. The integral is taken by 200-point Gauss–Legendre on each side of
it, out to where the integrand has fallen by e^-50: accurate to 1e-11 at any counts.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

Floats = NDArray[np.float64]

# Concentrates stakes near ±1/√(2a): tuned for differences of a few percentage points among discordant comparisons.
PRIOR = 10.0
POINTS = 200
NEGLIGIBLE = 50.0
# Halvings of [0, 1]: the mode to the last bit, the ends of the integral to a trillionth.
MODE_STEPS = 60
END_STEPS = 45
LARGEST_STAKE = 1 - 2.0**-53


def log_wealth(m: ArrayLike, *, plus: ArrayLike, minus: ArrayLike, zero: ArrayLike) -> Floats:
    """Compute ln W(m), elementwise, for shapes that broadcast.

    Args:
        m: hypothetical mean differences in (-1, 1].
        plus: how often x was 1; need not be whole.
        minus: how often x was -1.
        zero: how often x was 0.
    """
    return log_wealth_and_slope(1 + np.asarray(m, dtype=float), m, plus=plus, minus=minus, zero=zero)[0]


def log_wealth_and_slope(
    mu: ArrayLike, m: ArrayLike, *, plus: ArrayLike, minus: ArrayLike, zero: ArrayLike
) -> tuple[Floats, Floats]:
    """Compute ln W and its derivative by ln mu, elementwise, where mu = 1 + m.

    Args:
        mu: 1 + m in (0, 2], given apart so that neither end of the range loses digits.
        m: in (-1, 1].
        plus: as for `log_wealth`.
        minus: likewise.
        zero: likewise.
    """
    mu, m, plus, minus, zero = np.broadcast_arrays(
        *(np.asarray(value, dtype=float) for value in (mu, m, plus, minus, zero))
    )
    gain, loss = (1 - m) / mu, -m / mu
    problem = _Integrand(gain, loss, plus, minus, zero)
    mode = problem.mode()
    stakes, weights = _panels(mode, problem.ends(mode))
    heights = problem.log_height(stakes)
    top = heights.max(axis=0)
    masses = weights * np.exp(heights - top)
    total = masses.sum(axis=0)
    slopes = -stakes / mu * (2 * plus / (1 + stakes * gain) + zero / (1 + stakes * loss))
    return np.log(total) + top - (betaln(0.5, PRIOR) - np.log(2)), (masses * slopes).sum(axis=0) / total


class _Integrand:
    """The integrand as a function of the stake u, for an array of problems."""

    def __init__(self, gain: Floats, loss: Floats, plus: Floats, minus: Floats, zero: Floats) -> None:
        self._gain, self._loss, self._plus, self._minus, self._zero = gain, loss, plus, minus, zero

    def log_height(self, u: Floats) -> Floats:
        """Log of the integrand but for g's constant."""
        return (
            self._plus * np.log1p(u * self._gain)
            + self._zero * np.log1p(u * self._loss)
            + (self._minus + PRIOR - 1) * np.log1p(-u)
            + (PRIOR - 1) * np.log1p(u)
        )

    def _slope(self, u: Floats) -> Floats:
        return (
            self._plus * self._gain / (1 + u * self._gain)
            + self._zero * self._loss / (1 + u * self._loss)
            - (self._minus + PRIOR - 1) / (1 - u)
            + (PRIOR - 1) / (1 + u)
        )

    def mode(self) -> Floats:
        """Where it is highest in [0, 1): its slope falls, so halving finds the one sign change."""
        low, high = np.zeros_like(self._gain), np.full_like(self._gain, LARGEST_STAKE)
        for _ in range(MODE_STEPS):
            middle = (low + high) / 2
            rising = self._slope(middle) > 0
            low, high = np.where(rising, middle, low), np.where(rising, high, middle)
        return low

    def ends(self, mode: Floats) -> Floats:
        """Left and right end, shape (2, problems), beyond which it is negligible."""
        floor = self.log_height(mode) - NEGLIGIBLE
        near = np.stack([mode, mode])
        far = np.stack([np.zeros_like(mode), np.full_like(mode, LARGEST_STAKE)])
        for _ in range(END_STEPS):
            middle = (near + far) / 2
            negligible = self.log_height(middle) < floor
            near, far = np.where(negligible, near, middle), np.where(negligible, middle, far)
        return far


def _panels(mode: Floats, ends: Floats) -> tuple[Floats, Floats]:
    """Nodes and weights, shape (2 · points, problems), on both sides of the mode."""
    nodes, weights = _gauss_legendre()
    lengths = np.abs(ends - mode)
    shape = (POINTS,) + (1,) * mode.ndim
    along = nodes.reshape(shape)
    left, right = mode - lengths[0] * along, mode + lengths[1] * along
    return (
        np.concatenate([left, np.minimum(right, LARGEST_STAKE)]),
        np.concatenate([lengths[0] * weights.reshape(shape), lengths[1] * weights.reshape(shape)]),
    )


@cache
def _gauss_legendre() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    return (nodes + 1) / 2, weights / 2
