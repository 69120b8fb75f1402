"""Two embeddings: how far apart, and in which dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multishadow_server.core.prediction import Embedding

MOST_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """One dimension: its place, counting from 0, and both values."""

    place: int
    live: float
    shadow: float

    @property
    def apart(self) -> float:
        """The candidate's value minus live's."""
        return self.shadow - self.live


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorDifference:
    """Two vectors side by side.

    Args:
        live_size, shadow_size: their dimensions.
        cosine: of the angle between them; None where there is none: sizes differ, or one is zero or holds no number.
        distance: Euclidean; None as above.
        live_norm, shadow_norm: their lengths; None where they hold no number.
        farthest: the dimensions that differ most, the largest difference first.
        nearest: those that differ least.
        not_numbers: how many dimensions are NaN or infinite on either side.
    """

    live_size: int
    shadow_size: int
    cosine: float | None
    distance: float | None
    live_norm: float | None
    shadow_norm: float | None
    farthest: Sequence[Dimension]
    nearest: Sequence[Dimension]
    not_numbers: int

    @property
    def angle(self) -> float | None:
        """In degrees; None without a cosine."""
        return None if self.cosine is None else math.degrees(math.acos(self.cosine))


def difference(live: Embedding, shadow: Embedding) -> VectorDifference:
    """What differs between two vectors of shape (d,)."""
    a, b = live.values.astype(np.float64), shadow.values.astype(np.float64)
    same_size = a.shape == b.shape
    finite = np.isfinite(a) & np.isfinite(b) if same_size else np.zeros(0, dtype=bool)
    broken = int((~finite).sum()) if same_size else int((~np.isfinite(a)).sum() + (~np.isfinite(b)).sum())
    whole = same_size and not broken and a.size > 0
    norms = [_norm(each) for each in (a, b)]
    places = np.flatnonzero(finite)
    apart = np.abs(b[places] - a[places]) if same_size else np.zeros(0)
    return VectorDifference(
        live_size=a.size,
        shadow_size=b.size,
        cosine=_cosine(a, b, norms) if whole else None,
        distance=float(np.linalg.norm(b - a)) if whole else None,
        live_norm=norms[0],
        shadow_norm=norms[1],
        farthest=_dimensions(a, b, places, _first(-apart)),
        nearest=_dimensions(a, b, places, _first(apart)),
        not_numbers=broken,
    )


def _norm(vector: NDArray[np.float64]) -> float | None:
    norm = float(np.linalg.norm(vector))
    return norm if math.isfinite(norm) else None


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64], norms: Sequence[float | None]) -> float | None:
    if not norms[0] or not norms[1]:
        return None
    return 1.0 if np.array_equal(a, b) else min(1.0, max(-1.0, float(a @ b) / (norms[0] * norms[1])))


def _first(keys: NDArray[np.float64]) -> NDArray[np.intp]:
    """Places of the smallest keys, in their order; equal ones by place."""
    if keys.size <= MOST_SHOWN:
        return np.argsort(keys, kind="stable")
    bound = np.partition(keys, MOST_SHOWN - 1)[MOST_SHOWN - 1]
    few = np.flatnonzero(keys <= bound)
    return few[np.argsort(keys[few], kind="stable")][:MOST_SHOWN]


def _dimensions(
    a: NDArray[np.float64], b: NDArray[np.float64], places: NDArray[np.intp], chosen: NDArray[np.intp]
) -> Sequence[Dimension]:
    return [Dimension(place=int(n), live=float(a[n]), shadow=float(b[n])) for n in places[chosen]]
