"""How many requests it takes to prove that one candidate diverges more often than another.

The candidates are taken to diverge independently of each other, given their rates. Of n requests, b and c tell them
apart; b - c is nearly normal, so its quantile at n says which evidence is reached at n with which probability. Having
reached it earlier is left out, so the numbers are on the safe side, by a few percent (`bench/simulation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from multishadow_server.core.statistics import ranking
from multishadow_server.core.statistics.evidence import log_evidence
from multishadow_server.errors import InvalidInput

MOST_REQUESTS = 1e12
CHANCES = (0.5, 0.8, 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What it takes to prove a difference.

    Args:
        chance: probability of having proven it by then.
        requests: that are compared.
        seconds: that they take.
    """

    chance: float
    requests: int
    seconds: float


def plan(better: float, worse: float, *, candidates: int, alpha: float, rate: float) -> tuple[Plan, ...]:
    """What it takes for an even chance, for four in five, and for nineteen in twenty.

    Args:
        better: the smaller rate of divergence, in [0, 1].
        worse: the larger one.
        candidates: how many are compared with each other.
        alpha: chance of ever making a false claim.
        rate: requests per second that are compared.

    Raises:
        InvalidInput: a value is out of range.
    """
    if not 0 < rate < np.inf:
        raise InvalidInput(f"rate: {rate:g} is out of range; allowed are requests per second above 0")
    requests = {
        chance: requests_to_decide(better, worse, candidates=candidates, alpha=alpha, chance=chance)
        for chance in CHANCES
    }
    return tuple(Plan(chance=chance, requests=n, seconds=n / rate) for chance, n in requests.items())


def requests_to_decide(
    better: float, worse: float, *, candidates: int = 2, alpha: float = 0.05, chance: float = 0.5
) -> int:
    """Requests after which the difference is proven with a given probability.

    Args:
        better: the smaller rate of divergence, in [0, 1].
        worse: the larger one.
        candidates: how many are compared with each other; all pairs share α.
        alpha: chance of ever making a false claim.
        chance: probability of having proven it by then, in (0, 1).

    Raises:
        InvalidInput: a value is out of range.
    """
    _check(better, worse, candidates, alpha)
    threshold = float(np.log(ranking.pair_threshold(candidates, alpha)))
    low, high = np.log(1.0), np.log(MOST_REQUESTS)
    for _ in range(60):
        middle = (low + high) / 2
        reached = _log_evidence(float(np.exp(middle)), better, worse, chance) >= threshold
        low, high = (low, middle) if reached else (middle, high)
    return int(np.ceil(np.exp(high)))


def _log_evidence(n: float, better: float, worse: float, chance: float) -> float:
    """Ln of the evidence that n requests reach with probability `chance`."""
    only_worse, only_better = worse * (1 - better), better * (1 - worse)
    told_apart = only_worse + only_better
    lead = n * (worse - better) - ndtri(chance) * np.sqrt(n * (told_apart - (worse - better) ** 2))
    lead = np.clip(lead, -n * told_apart, n * told_apart)
    b, c = (n * told_apart + lead) / 2, (n * told_apart - lead) / 2
    return float(log_evidence(np.array([b]), np.array([c]))[0])


def _check(better: float, worse: float, candidates: int, alpha: float) -> None:
    if not 0 <= better < worse <= 1:
        raise InvalidInput(f"rates: {better:g} and {worse:g}; name a smaller and a larger one between 0 and 1")
    if not 2 <= candidates <= 10:
        raise InvalidInput(f"candidates: {candidates} is out of range; allowed are 2 to 10")
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha: {alpha:g} is out of range; allowed is (0, 1), usual is 0.05")
