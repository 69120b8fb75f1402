"""Embeddings: cosine, and everything that has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from multishadow_server.core import comparison
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Embedding

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays.arrays(np.float32, st.integers(1, 40), elements=finite).filter(lambda vector: bool(vector.any()))


def embedding(*values: float) -> Embedding:
    return Embedding(values=np.array(values, dtype=np.float32))


def compare(live: Embedding, shadow: Embedding, threshold: float = 0.85) -> comparison.Comparison:
    return comparison.compare(Comparator(threshold=threshold), live, shadow)


@given(vectors)
def test_every_vector_agrees_with_itself_at_the_strictest_threshold(vector: np.ndarray) -> None:
    result = compare(Embedding(values=vector), Embedding(values=vector.copy()), threshold=1.0)

    assert (result.verdict, result.similarity) == (Verdict.AGREE, 1.0)


@given(arrays.arrays(np.float32, (2, 8), elements=finite).filter(lambda pair: bool(pair.any(axis=1).all())))
def test_similarity_is_the_cosine_without_its_negative_half(pair: np.ndarray) -> None:
    a, b = ([float(value) for value in row] for row in pair)
    exact = math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    result = compare(Embedding(values=pair[0]), Embedding(values=pair[1]))

    assert result.similarity == pytest.approx(max(0.0, exact), abs=1e-9)
    assert 0.0 <= (result.similarity or 0.0) <= 1.0


def test_length_does_not_matter_and_opposite_directions_are_0() -> None:
    assert compare(embedding(1, 2, 3), embedding(1000, 2000, 3000)).similarity == pytest.approx(1.0)
    assert compare(embedding(1, 2, 3), embedding(-1, -2, -3)).similarity == 0.0


@pytest.mark.parametrize(("shadow", "verdict"), [((1, 0.6), Verdict.AGREE), ((1, 0.7), Verdict.DIVERGE)])
def test_the_threshold_decides(shadow: tuple[float, float], verdict: Verdict) -> None:
    assert compare(embedding(1, 0), embedding(*shadow)).verdict is verdict


@pytest.mark.parametrize(
    ("live", "shadow", "reason"),
    [
        ((), (), "empty_embedding"),
        ((), (1.0,), "empty_embedding"),
        ((1.0,), (), "empty_embedding"),
        ((1.0, 2.0), (1.0, 2.0, 3.0), "dimension_mismatch"),
        ((1.0, math.nan), (1.0, math.nan), "nan"),
        ((1.0, 1.0), (1.0, math.nan), "nan"),
        ((1.0, math.inf), (1.0, 1.0), "infinite"),
        ((0.0, 0.0), (0.0, 0.0), "zero_norm"),
        ((1.0, 0.0), (0.0, -0.0), "zero_norm"),
    ],
)
def test_vectors_without_a_cosine_are_uncomparable(live: tuple[float], shadow: tuple[float], reason: str) -> None:
    result = compare(embedding(*live), embedding(*shadow))

    assert (result.verdict, result.similarity, result.reason) == (Verdict.UNCOMPARABLE, None, reason)
    assert result.detail


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 3e38])
def test_the_smallest_and_largest_floats_neither_vanish_nor_overflow(scale: float) -> None:
    assert compare(embedding(scale, scale), embedding(scale, scale / 2 if scale > 1 else scale)).similarity is not None
    assert compare(embedding(scale), embedding(1.0)).similarity == pytest.approx(1.0)
