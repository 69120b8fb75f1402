"""Being right nearly as often as the live version."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core.statistics import sequences
from multishadow_server.core.statistics.non_inferiority import LabelledPair

counts = st.integers(0, 2_000)
PROVEN = math.log(3 / 0.05)


@given(counts, counts, counts)
def test_the_claim_is_proven_exactly_when_the_interval_lies_above_the_margin(plus: int, minus: int, alike: int) -> None:
    lower, upper = sequences.paired(
        only_first=np.array([float(plus)]),
        only_second=np.array([float(minus)]),
        neither_or_both=np.array([float(alike)]),
        log_threshold=PROVEN,
    )
    pair = LabelledPair(only_candidate_right=plus, only_live_right=minus, alike=alike)
    assert (pair.log_not_worse(0.01) >= PROVEN) == (lower[0] >= -0.01)
    assert (pair.log_worse(0.01) >= PROVEN) == (upper[0] <= -0.01)


def test_a_candidate_that_is_right_as_often_is_proven_so_with_enough_labels() -> None:
    assert LabelledPair(only_candidate_right=100, only_live_right=100, alike=9_800).log_not_worse(0.01) > PROVEN
    few = LabelledPair(only_candidate_right=1, only_live_right=1, alike=98)
    assert few.log_not_worse(0.01) < PROVEN
    assert (few.n, few.difference) == (100, 0)


def test_without_labels_nothing_is_claimed() -> None:
    nothing = LabelledPair(only_candidate_right=0, only_live_right=0, alike=0)
    assert nothing.log_not_worse(0.01) == pytest.approx(0, abs=1e-9)
    assert nothing.log_worse(0.01) == pytest.approx(0, abs=1e-9)
