"""What a model can answer. The wire format stays at the edges; comparison reads these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Json: TypeAlias = "bool | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    """One label; confidence in [0, 1] or None; probability by label, possibly empty."""

    label: str
    confidence: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedding:
    """A vector, shape (d,), float32."""

    values: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Free text."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Structured:
    """A JSON-like object; numbers are floats, as in protobuf's Struct."""

    value: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scalar:
    """One number."""

    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Raw:
    """Bytes that nobody here understands."""

    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """Bytes that are no response at all, or a response that sets no output; `reason` says which."""

    reason: str


Prediction: TypeAlias = Classification | Embedding | Text | Structured | Scalar | Raw | Unreadable
