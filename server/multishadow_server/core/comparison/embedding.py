"""Embeddings by cosine."""

from __future__ import annotations

import math

import numpy as np

from multishadow_server.core.comparison.verdict import Comparison, judged, uncomparable
from multishadow_server.core.prediction import Embedding


def compare(threshold: float, live: Embedding, shadow: Embedding) -> Comparison:
    """They agree iff max(0, cosine) is at least `threshold`.

    The cosine a·b / √(a·a · b·b) of two vectors of shape (d,), accumulated in 64 bits. An opposite direction is no more
    alike than an unrelated one, so negative cosines are similarity 0.

    Uncomparable: `empty_embedding`, `dimension_mismatch`, `nan`, `infinite`, `zero_norm`.
    """
    sizes = f"live has {live.values.size} dimensions, shadow has {shadow.values.size}"
    if not live.values.size or not shadow.values.size:
        return uncomparable("empty_embedding", sizes)
    if live.values.shape != shadow.values.shape:
        return uncomparable("dimension_mismatch", sizes)
    a, b = live.values.astype(np.float64), shadow.values.astype(np.float64)
    for reason, fits in (("nan", np.isnan), ("infinite", np.isinf)):
        if where := _sides(live=bool(fits(a).any()), shadow=bool(fits(b).any())):
            return uncomparable(reason, f"in the vector of {where}")
    # Squares of 32-bit floats neither overflow nor vanish in 64 bits.
    squares_a, squares_b = float(a @ a), float(b @ b)
    if where := _sides(live=not squares_a, shadow=not squares_b):
        return uncomparable("zero_norm", f"every dimension is zero in the vector of {where}")
    # Rounding may leave a vector's cosine with itself below 1, and a threshold of 1 must still be met.
    cosine = 1.0 if np.array_equal(a, b) else float(a @ b) / math.sqrt(squares_a * squares_b)
    similarity = min(1.0, max(0.0, cosine))
    agree = similarity >= threshold
    return judged(
        agree=agree, similarity=similarity, detail="" if agree else f"cosine {cosine:.4f} is below {threshold:g}"
    )


def _sides(*, live: bool, shadow: bool) -> str:
    return " and ".join(name for name, holds in (("live", live), ("shadow", shadow)) if holds)
