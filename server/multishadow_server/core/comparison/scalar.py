"""Numbers by absolute and relative tolerance."""

from __future__ import annotations

import math

from multishadow_server.core.comparison.verdict import Comparison, judged, uncomparable
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Scalar


def compare(comparator: Comparator, live: Scalar, shadow: Scalar) -> Comparison:
    """They agree iff |a − b| ≤ max(absolute, relative · max(|a|, |b|)). `nan` on either side is uncomparable.

    Similarity is 1 − min(1, |a − b| / max(|a|, |b|)), and 1 where the absolute tolerance covers the difference: near
    zero, relative differences mean nothing. Infinities are equal to themselves alone.
    """
    a, b = live.value, shadow.value
    if math.isnan(a) or math.isnan(b):
        return uncomparable("nan", f"live is {a:g}, shadow is {b:g}")
    agree = close(comparator, a, b)
    detail = "" if agree else f"live is {a:.10g}, shadow is {b:.10g}"
    return judged(agree=agree, similarity=_similarity(comparator, a, b), detail=detail)


def close(comparator: Comparator, a: float, b: float) -> bool:
    """Whether two numbers are equal within tolerance; NaN is close to nothing."""
    if math.isinf(a) or math.isinf(b):
        return a == b
    largest = max(abs(a), abs(b))
    return abs(a - b) <= max(comparator.absolute_tolerance, comparator.relative_tolerance * largest)


def _similarity(comparator: Comparator, a: float, b: float) -> float:
    if a == b:
        return 1.0
    if math.isinf(a) or math.isinf(b):
        return 0.0
    difference = abs(a - b)
    if difference <= comparator.absolute_tolerance:
        return 1.0
    return 1.0 - min(1.0, difference / max(abs(a), abs(b)))
