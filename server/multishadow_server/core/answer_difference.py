"""What differs between live's answer and a candidate's, by the kind of answer; worked out for people to look at.

Whether the two agree is decided elsewhere (`core.comparison`), once, when they were compared. Here nothing is decided;
everything is bounded, whatever the answers hold, and says what its bounds left out.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TypeAlias

from multishadow_server.core import class_difference, structure_difference, text_difference, vector_difference
from multishadow_server.core.class_difference import ClassDifference
from multishadow_server.core.comparison import scalar
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import (
    Classification,
    Embedding,
    Prediction,
    Raw,
    Scalar,
    Structured,
    Text,
    Unreadable,
)
from multishadow_server.core.structure_difference import StructureDifference
from multishadow_server.core.text_difference import TextDifference
from multishadow_server.core.vector_difference import VectorDifference

# Bytes around the first that differs.
SHOWN_BYTES = 48
LONGEST_REASON = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberDifference:
    """Two numbers.

    Args:
        live, shadow: the numbers; may be NaN or infinite.
        apart: the candidate's minus live's; None where that is no number.
        relative: |apart| by the larger of both sizes; None where that is no number.
        allowed: how far apart they may be: max(absolute, relative · max(|a|, |b|)); None where that is no number.
        close: whether they are within it.
    """

    live: float
    shadow: float
    apart: float | None
    relative: float | None
    allowed: float | None
    close: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BytesDifference:
    """Two answers that nobody here understands.

    Args:
        live_size, shadow_size: in bytes.
        live_digest, shadow_digest: SHA-256, hexadecimal.
        first: place of the first byte that differs; None when they are equal.
        live, shadow: the bytes around it, hexadecimal.
    """

    live_size: int
    shadow_size: int
    live_digest: str
    shadow_digest: str
    first: int | None
    live: str
    shadow: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoDifference:
    """Nothing can be held beside each other; `reason` says why, for a person."""

    reason: str


Difference: TypeAlias = (
    TextDifference
    | ClassDifference
    | StructureDifference
    | VectorDifference
    | NumberDifference
    | BytesDifference
    | NoDifference
)


def difference(  # noqa: PLR0911  one return per kind of answer
    comparator: Comparator, live: Prediction, shadow: Prediction
) -> Difference:
    """What differs between two answers. Never raises."""
    for name, side in (("live's answer", live), ("the candidate's answer", shadow)):
        if isinstance(side, Unreadable):
            return NoDifference(reason=f"{name} cannot be read: {side.reason}"[:LONGEST_REASON])
    match live, shadow:
        case Text(), Text():
            return text_difference.difference(live.text, shadow.text)
        case Classification(), Classification():
            return class_difference.difference(live, shadow)
        case Structured(), Structured():
            return structure_difference.difference(comparator, live, shadow)
        case Embedding(), Embedding():
            return vector_difference.difference(live, shadow)
        case Scalar(), Scalar():
            return _of_numbers(comparator, live.value, shadow.value)
        case Raw(), Raw():
            return _of_bytes(live.data, shadow.data)
    kinds = " and ".join(type(side).__name__.lower() for side in (live, shadow))
    return NoDifference(reason=f"the answers are of two kinds, {kinds}")


def kind_of(found: Difference) -> str:
    """A word for its kind, by which it is shown: `text`, `class`, `structure`, `vector`, `number`, `bytes`, `no`."""
    return type(found).__name__.removesuffix("Difference").lower()


def _of_numbers(comparator: Comparator, live: float, shadow: float) -> NumberDifference:
    largest = max(abs(live), abs(shadow))
    apart = shadow - live
    finite = math.isfinite(live) and math.isfinite(shadow)
    relative = abs(apart) / largest if finite and largest and math.isfinite(apart) else None
    return NumberDifference(
        live=live,
        shadow=shadow,
        apart=apart if math.isfinite(apart) else None,
        relative=0.0 if finite and not largest else relative,
        allowed=max(comparator.absolute_tolerance, comparator.relative_tolerance * largest) if finite else None,
        close=scalar.close(comparator, live, shadow),
    )


def _of_bytes(live: bytes, shadow: bytes) -> BytesDifference:
    first = _first_differing(live, shadow)
    begin = max(0, (first or 0) - SHOWN_BYTES // 3)
    return BytesDifference(
        live_size=len(live),
        shadow_size=len(shadow),
        live_digest=hashlib.sha256(live).hexdigest(),
        shadow_digest=hashlib.sha256(shadow).hexdigest(),
        first=first,
        live=live[begin : begin + SHOWN_BYTES].hex(" "),
        shadow=shadow[begin : begin + SHOWN_BYTES].hex(" "),
    )


def _first_differing(live: bytes, shadow: bytes) -> int | None:
    if live == shadow:
        return None
    # Halving: slices are compared in C, whatever their size.
    low, high = 0, min(len(live), len(shadow))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if live[:middle] == shadow[:middle] else (low, middle - 1)
    return low
