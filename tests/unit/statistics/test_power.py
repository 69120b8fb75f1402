"""Requests that a proof takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from multishadow_server.core.statistics import power
from multishadow_server.core.statistics.evidence import log_evidence
from multishadow_server.errors import InvalidInput


@pytest.mark.parametrize(("worse", "chance"), [(0.05, 0.5), (0.05, 0.8), (0.08, 0.95)])
def test_the_stated_share_of_experiments_is_decided_by_then(worse: float, chance: float) -> None:
    n = power.requests_to_decide(0.03, worse, candidates=3, chance=chance)
    draw = np.random.default_rng(8)
    only_worse, only_better = worse * 0.97, 0.03 * (1 - worse)
    b, c, _ = draw.multinomial(n, [only_worse, only_better, 1 - only_worse - only_better], 20_000).astype(float).T
    decided = (log_evidence(b, c) >= math.log(3 * 2 / 0.05)).mean()
    assert decided == pytest.approx(chance, abs=0.03)


def test_smaller_differences_and_more_candidates_take_longer() -> None:
    assert power.requests_to_decide(0.03, 0.04) > power.requests_to_decide(0.03, 0.05)
    assert power.requests_to_decide(0.03, 0.05, candidates=10) > power.requests_to_decide(0.03, 0.05)


@pytest.mark.parametrize(
    ("rates", "settings", "what"),
    [
        ((0.04, 0.03), {}, "rates"),
        ((0.03, 0.03), {}, "rates"),
        ((math.nan, 0.03), {}, "rates"),
        ((0.03, 0.04), {"candidates": 1}, "candidates"),
        ((0.03, 0.04), {"alpha": 1.0}, "alpha"),
    ],
)
def test_what_cannot_be_planned_is_refused(rates: tuple[float, float], settings: dict[str, float], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        power.requests_to_decide(*rates, **settings)  # type: ignore[arg-type]  # int or float by name
