"""Confidence sequences: intervals that hold at all times at once, by inverting the tests."""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, expit

from multishadow_server.core.statistics import betting
from multishadow_server.core.statistics.betting import Floats
from multishadow_server.core.statistics.evidence import log_evidence

# Newton's method closes in from outside without overshooting (below); these bound it and end it.
LARGEST_STEPS = 400
SMALLEST_STEP = 1e-13
# Below e^-40 a bound is -1 to the last bit of a float.
LOWEST_LOG_MU = -40.0
HIGHEST_LOG_MU = np.log(2.0)
# Prior of the rate: one bad in twenty expected, worth ten observations.
RATE_PRIOR = (0.5, 9.5)
FARTHEST_LOGIT = 300.0


def paired(
    *, only_first: Floats, only_second: Floats, neither_or_both: Floats, log_threshold: float
) -> tuple[Floats, Floats]:
    """Interval for (rate of the first) - (rate of the second), over requests that both were compared on.

    Args:
        only_first: on how many requests only the first was bad, shape (pairs,).
        only_second: on how many only the second was.
        neither_or_both: the rest.
        log_threshold: ln of the wealth that refutes a difference, ln(2/α) for a two-sided level α.

    Returns:
        Lower and upper bounds in [-1, 1]. The lower is at least 0 exactly when `log_evidence` of "first is worse"
        reaches the threshold; likewise the upper, mirrored.
    """
    # Both ends are one problem: the upper bound is the mirrored lower one.
    bounds = _paired_lower(
        np.concatenate([only_first, only_second]).astype(float),
        np.concatenate([only_second, only_first]).astype(float),
        np.concatenate([neither_or_both, neither_or_both]).astype(float),
        log_threshold,
    )
    lower, mirrored = np.split(bounds, 2)
    return lower, -mirrored


def rate(*, bad: Floats, n: Floats, log_threshold: float) -> tuple[Floats, Floats]:
    """Interval for a rate, elementwise: the p that the Beta mixture does not refute.

    p is refuted when B(½+S, 9½+n-S) / (B(½, 9½) p^S (1-p)^(n-S)) reaches the threshold, S of n being bad.

    Args:
        bad: S, shape (candidates,).
        n: comparisons that count; n = 0 gives [0, 1].
        log_threshold: ln of the evidence that refutes, ln(k/α) for k candidates together.
    """
    constant = betaln(RATE_PRIOR[0] + bad, RATE_PRIOR[1] + n - bad) - betaln(*RATE_PRIOR) - log_threshold
    lower = np.where(bad > 0, expit(_rate_bound(-FARTHEST_LOGIT, bad, n, constant)), 0.0)
    upper = np.where(bad < n, expit(_rate_bound(FARTHEST_LOGIT, bad, n, constant)), 1.0)
    return lower, upper


def running_rate(*, bad: Floats, n: Floats, log_threshold: float) -> tuple[Floats, Floats]:
    """Intersections of `rate` over time: what all intervals up to a time have in common.

    The sequence holds the rate at all times at once with probability 1 - α, so their intersection holds it as well.
    That needs one rate for all times: one that moves leaves the intersection behind, and in the end empties it.

    Args:
        bad: S so far, at each of some times, shape (times, candidates).
        n: comparisons so far that count, likewise.
        log_threshold: as for `rate`.

    Returns:
        Lower bounds that never fall over time and upper ones that never rise, shapes (times, candidates); a lower one
        above its upper one is an empty intersection.
    """
    lower, upper = rate(bad=bad, n=n, log_threshold=log_threshold)
    return np.maximum.accumulate(lower, axis=0), np.minimum.accumulate(upper, axis=0)


def _rate_bound(start: float, s: Floats, n: Floats, constant: Floats) -> Floats:
    """Root on `start`'s side of f(x) = constant - s x + n ln(1 + e^x), x = logit p.

    f is convex, so Newton's method from outside comes nearer at every step and never passes the root.
    """
    x = np.full(s.shape, start)
    for _ in range(LARGEST_STEPS):
        value = constant - s * x + n * np.logaddexp(0, x)
        slope = n * expit(x) - s
        step = np.where((value > 0) & (slope * start > 0), value / np.where(slope == 0, 1.0, slope), 0.0)
        x = x - step
        if np.all(np.abs(step) <= SMALLEST_STEP * np.maximum(1, np.abs(x))):
            break
    return x


def _paired_lower(plus: Floats, minus: Floats, zero: Floats, log_threshold: float) -> Floats:
    """sup{m : W(m) >= threshold}, or -1, on that side of zero on which the test says that it lies.

    The root's last digits are rounding; they must not contradict the closed form, and nothing but they does.
    """
    lower = paired_root(plus, minus, zero, log_threshold)
    refuted = log_evidence(plus, minus) >= log_threshold
    bound: Floats = np.where(refuted, np.maximum(lower, 0.0), np.minimum(lower, -np.finfo(float).tiny))
    return bound


def paired_root(plus: Floats, minus: Floats, zero: Floats, log_threshold: float) -> Floats:
    """sup{m : W(m) >= threshold}, or -1, as the integral alone has it.

    ln W is convex in -ln(1 + m) (a mixture of log-sum-exps), so Newton's method closes in from outside; a first guess
    inside merely costs one step more.
    """
    log_mu = _first_guess(plus, minus, zero, log_threshold)
    # Wealth never grows when every score was -1: nothing is refuted.
    open_ended = plus + zero == 0
    active = ~open_ended
    for _ in range(LARGEST_STEPS):
        if not active.any():
            break
        wealth, slope = betting.log_wealth_and_slope(
            np.exp(log_mu[active]),
            np.expm1(log_mu[active]),
            plus=plus[active],
            minus=minus[active],
            zero=zero[active],
        )
        moved = np.clip(log_mu[active] - (wealth - log_threshold) / slope, LOWEST_LOG_MU, HIGHEST_LOG_MU)
        settled = np.abs(moved - log_mu[active]) <= SMALLEST_STEP
        log_mu[active] = moved
        active[active] = ~settled
    root: Floats = np.where(open_ended, -1.0, np.expm1(log_mu))
    return root


def _first_guess(plus: Floats, minus: Floats, zero: Floats, log_threshold: float) -> Floats:
    """ln(1 + m) near the root, from the normal approximation."""
    n = np.maximum(plus + minus + zero, 1.0)
    mean = (plus - minus) / n
    variance = np.maximum((plus + minus) / n - mean**2, 0.0) + 1 / n
    nats = log_threshold + 0.5 * np.log1p(n * variance / 20)
    half = np.sqrt(2 * variance * nats / n) + 2 * nats / n
    guess: Floats = np.log(np.maximum(1 + mean - half, (1 + mean) / 8 + np.exp(LOWEST_LOG_MU)))
    return guess
