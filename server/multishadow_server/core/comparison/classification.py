"""Classifications by label."""

from __future__ import annotations

import math
from dataclasses import replace

from multishadow_server.core.comparison.verdict import Comparison, judged, uncomparable
from multishadow_server.core.prediction import Classification


def compare(live: Classification, shadow: Classification) -> Comparison:
    """They agree iff their labels are equal, letter by letter; `empty_label` is uncomparable.

    How sure the two are is tracked apart, as `confidence_delta`: it decides nothing.
    """
    if not live.label or not shadow.label:
        return uncomparable("empty_label", f"live said {live.label[:80]!r}, shadow said {shadow.label[:80]!r}")
    agree = live.label == shadow.label
    detail = "" if agree else f"live said {live.label[:80]!r}, shadow said {shadow.label[:80]!r}"
    return replace(
        judged(agree=agree, similarity=float(agree), detail=detail),
        confidence_delta=_confidence_delta(live.confidence, shadow.confidence),
        live_confidence=live.confidence,
    )


def _confidence_delta(live: float | None, shadow: float | None) -> float | None:
    if live is None or shadow is None:
        return None
    delta = shadow - live
    return delta if math.isfinite(delta) else None
