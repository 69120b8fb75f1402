"""The classical tests, against their reference implementations."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from statsmodels.stats import contingency_tables

from multishadow_server.core.statistics import fixed_horizon

outcomes = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60)
scores = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=40)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_exact(b: int, c: int) -> None:
    exact, mid = fixed_horizon.mcnemar(b, c)
    assert exact == pytest.approx(contingency_tables.mcnemar([[0, b], [c, 0]], exact=True).pvalue, rel=1e-9)
    assert mid <= exact
    assert fixed_horizon.mcnemar(c, b) == (exact, mid)


def test_mid_p_halves_the_weight_of_what_was_seen() -> None:
    # 1, 9: exact 2 (1 + 10)/1024; mid-p takes half of P(1) = 10/1024 from each tail.
    assert fixed_horizon.mcnemar(1, 9) == pytest.approx((22 / 1024, 12 / 1024))


@given(outcomes)
def test_cochran_q_is_the_reference(rows: list[tuple[bool, ...]]) -> None:
    table = np.array(rows, dtype=int)
    histogram = Counter(table.sum(axis=1).tolist())
    found = fixed_horizon.cochran_q(table.sum(axis=0).tolist(), histogram)
    if all(number in (0, 3) for number in histogram):
        assert found == 1
    else:
        assert found == pytest.approx(contingency_tables.cochrans_q(table).pvalue, rel=1e-9, abs=1e-300)


@given(scores)
def test_the_paired_t_test_is_the_reference(rows: list[tuple[int, int]]) -> None:
    x, y = np.array(rows, dtype=np.int64).T
    found = fixed_horizon.paired_t(
        len(rows),
        first=int(x.sum()),
        second=int(y.sum()),
        first_squares=int((x * x).sum()),
        second_squares=int((y * y).sum()),
        products=int((x * y).sum()),
    )
    if len(set((x - y).tolist())) > 1:
        assert found == pytest.approx(float(ttest_rel(x, y).pvalue), rel=1e-6, abs=1e-300)
    else:
        assert found == (1.0 if x[0] == y[0] else 0.0)


def test_identical_candidates_differ_in_nothing() -> None:
    assert fixed_horizon.mcnemar(0, 0) == (1, 1)
    assert fixed_horizon.cochran_q([7, 7], {0: 100, 2: 7}) == 1
    assert fixed_horizon.cochran_q([7], {0: 100, 1: 7}) == 1
    same = {"first": 90, "second": 90, "first_squares": 8_100, "second_squares": 8_100, "products": 8_100}
    assert fixed_horizon.paired_t(10, **same) == 1
