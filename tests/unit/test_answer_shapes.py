"""Distributions that are drawn: latencies in few bars, similarity beside its threshold, shifts of confidence."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from multishadow_server.core import latency, latency_shape, similarity_shape
from multishadow_server.core.rollup import Family, Tables


def test_bars_hold_all_answers_but_the_slowest_and_the_timeouts() -> None:
    draw = random.Random(3)
    seconds = [draw.lognormvariate(-4, 0.4) for _ in range(5_000)] + [math.inf] * 50
    panels = latency_shape.panels({"A": latency.histogram(np.array(seconds))})
    assert panels is not None
    (shape,) = panels.shapes
    drawn = round(sum(bar.share for bar in shape.bars) * shape.n)
    assert (shape.n, shape.timed_out, drawn + shape.beyond) == (5_050, 50, 5_000)
    assert 0 < shape.beyond <= 5
    assert len(shape.bars) <= latency_shape.MOST_BARS
    assert all(
        left.upper == pytest.approx(right.lower) for left, right in zip(shape.bars, shape.bars[1:], strict=False)
    )
    assert shape.p50 == pytest.approx(sorted(seconds)[2_525], rel=0.01)
    assert shape.p99 == pytest.approx(sorted(seconds)[4_999], rel=0.02)


def test_a_percentile_among_timeouts_is_infinite() -> None:
    panels = latency_shape.panels({"A": latency.histogram(np.array([0.01] * 90 + [math.inf] * 10))})
    assert panels is not None
    assert math.isinf(panels.shapes[0].p95)


def test_versions_share_an_axis_and_those_without_answers_are_left_out() -> None:
    quick, slow = np.array([0.001] * 50), np.array([0.1] * 50)
    panels = latency_shape.panels({"A": latency.histogram(quick), "B": latency.histogram(slow), "C": {}})
    assert panels is not None
    assert [shape.version for shape in panels.shapes] == ["A", "B"]
    assert panels.place(0.001) < 0.05
    assert panels.place(0.1) > 0.9
    assert (panels.place(1e-9), panels.place(100)) == (0, 1)
    assert latency_shape.panels({"C": {}}) is None
    assert latency_shape.panels({"C": {latency.TIMED_OUT: 4}}) is None


def test_similarity_is_told_apart_by_the_threshold() -> None:
    tables: Tables = {
        (Family.SIMILARITY, "A"): {"0": 5, "84": 3, "85": 10, "99": 2, "100": 80},
        (Family.SIMILARITY_SUM, "A"): {"sum": 92_000_000},
    }
    shape = similarity_shape.similarity(tables, "A", threshold=0.85)
    assert shape is not None
    assert (shape.n, shape.exact, shape.below, shape.mean) == (100, 0.8, 0.08, 0.92)
    assert shape.shares[85] == 0.1
    assert similarity_shape.similarity(tables, "B", threshold=0.85) is None


def test_heights_are_logarithms_so_that_single_answers_show() -> None:
    shape = similarity_shape.similarity(
        {(Family.SIMILARITY, "A"): {"3": 1, "100": 9_999}, (Family.SIMILARITY_SUM, "A"): {}}, "A", threshold=0.85
    )
    assert shape is not None
    assert (shape.height(shape.exact), shape.height(0.0)) == (1.0, 0.0)
    assert shape.height(shape.shares[3]) == pytest.approx(math.log(2) / math.log(2 * 9_999))


def test_a_shift_of_confidence_has_a_mean_and_a_deviation() -> None:
    deltas = [0.1, -0.2, 0.05, 0.3]
    tables: Tables = {
        (Family.CONFIDENCE_DELTA, "A"): {
            "n": 4,
            "sum": round(sum(deltas) * 1e6),
            "squares": round(sum(delta**2 for delta in deltas) * 1e12),
        }
    }
    shift = similarity_shape.confidence(tables, "A")
    assert shift is not None
    assert shift.n == 4
    assert shift.mean == pytest.approx(0.0625)
    assert shift.deviation == pytest.approx(float(np.std(deltas)))
    assert similarity_shape.confidence(tables, "B") is None
