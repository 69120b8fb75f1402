"""Alarms for a rate of divergence that changes from one hour to another, both ways.

A shadow that died, or that answers from a cache, may look too good: a falling rate is as suspicious as a rising one.
For each ratio r, M = max(M, 1) · LR, where LR compares an hour's counts under r times the former rate with the same
under the former rate. One more compares them under a rate that has nothing to do with the former one. The M are
averaged; an alarm is when the average reaches 2160. Under no change that happens once in 2160 hours (90 days) at most:
an average of e-detectors is one (Shin, Ramdas & Rinaldo, "E-detectors", 2023).

The former rate is not known but estimated from all hours before. Its uncertainty belongs to both sides of LR, which
are Beta-binomial, so that LR has mean 1 also after a short history; a plugged-in estimate has not. That mean is over
what the hours before leave open about the rate, not for every fixed rate: for those the bound is shown by simulation.

The ratios alone would miss a candidate that never diverged and then breaks. What never happened may have nearly any
rate near zero, and a small multiple of it hardly explains more: 500 failures of 500 after 50,000 requests without one
are an LR of about 1,000 for the largest ratio, and 10^1000 and more for a rate of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, logsumexp

from multishadow_server.core.statistics.betting import Floats

RISING = (1.2, 1.5, 2.0, 3.0)
FALLING = (0.8, 0.6, 0.4, 0.2)
RATIOS = RISING + FALLING
LOG_ALARM = float(np.log(2160))
HIGHEST_RATE = 0.999
# Jeffreys'. One that expects small rates takes a candidate that always diverges for one that has changed, hour by hour.
RATE_PRIOR = (0.5, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """A change that was noticed.

    Args:
        hour: its place in the sequence of hours.
        rising: whether the rate rose.
        before, then: the rate over all hours before, and in the hour.
    """

    hour: int
    rising: bool
    before: float
    then: float


def first_alarm(bad: Sequence[int], n: Sequence[int]) -> tuple[Alarm | None, float]:
    """Go through hours in their order.

    Args:
        bad: how many comparisons of each hour were bad.
        n: how many counted.

    Returns:
        The first alarm, if one rang, and ln of the strongest evidence that there was by then; -inf before the second
        hour.
    """
    hours_bad, hours = np.array(bad, dtype=float), np.array(n, dtype=float)
    bad_before, before = np.cumsum(hours_bad) - hours_bad, np.cumsum(hours) - hours
    if not (told := (before > 0) & (hours > 0)).any():
        return None, -np.inf
    steps = np.where(told, _log_ratios(hours_bad, hours, bad_before, before), 0.0)
    sums = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
    # The recursion, unrolled: the best of all hours that it may have begun after.
    log_wealth = sums[:, 1:] - np.minimum.accumulate(sums, axis=1)[:, :-1]
    evidence = logsumexp(log_wealth, axis=0) - np.log(len(steps))
    ringing = np.flatnonzero(evidence >= LOG_ALARM)
    if not len(ringing):
        return None, float(evidence[told].max())
    hour = int(ringing[0])
    former, then = float(bad_before[hour] / before[hour]), float(hours_bad[hour] / hours[hour])
    strongest = int(log_wealth[:, hour].argmax())
    return (
        Alarm(
            hour=hour,
            rising=RATIOS[strongest] > 1 if strongest < len(RATIOS) else then > former,
            before=former,
            then=then,
        ),
        float(evidence[hour]),
    )


def _log_ratios(bad: Floats, n: Floats, bad_before: Floats, before: Floats) -> Floats:
    """Ln LR of every ratio, and last of a rate of the hour's own, shape (ratios + 1, hours)."""
    size = sum(RATE_PRIOR) + before
    rate = (RATE_PRIOR[0] + bad_before) / size
    multiples = np.minimum(np.array(RATIOS)[:, None] * rate, np.maximum(rate, HIGHEST_RATE))
    unrelated = betaln(RATE_PRIOR[0] + bad, RATE_PRIOR[1] + n - bad) - betaln(*RATE_PRIOR)
    log_ratios: Floats = np.vstack([_log_predictive(multiples, size, bad, n), unrelated]) - _log_predictive(
        rate, size, bad, n
    )
    return log_ratios


def _log_predictive(rate: Floats, size: Floats, bad: Floats, n: Floats) -> Floats:
    """Log of the Beta-binomial but for its coefficient, which cancels."""
    a, b = rate * size, (1 - rate) * size
    value: Floats = betaln(a + bad, b + n - bad) - betaln(a, b)
    return value
