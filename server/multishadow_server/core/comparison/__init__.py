"""Do two answers agree? One module per kind of answer; `compare` picks it.

An answer that cannot be judged (empty, zero, NaN, of another dimension or kind, or no answer at all) is `uncomparable`
with its reason: never an agreement, which would hide a broken version, and never a divergence, which would blame one.
Texts are the exception, because an empty text is an answer: see `text`.
"""

from __future__ import annotations

from multishadow_server.core.comparison import classification, embedding, raw, scalar, structured, text
from multishadow_server.core.comparison.verdict import Comparison, Verdict, uncomparable
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

__all__ = ["Comparison", "Verdict", "compare", "is_heavy", "uncomparable"]

# A millisecond or two each on one core; 400 English words a side, about 5,000 characters, take 0.2 ms.
LIGHT_CHARACTERS = 8_000
LIGHT_FIELDS = 500
LIGHT_DIMENSIONS = 100_000


def compare(  # noqa: PLR0911  # one return per kind of answer
    comparator: Comparator, live: Prediction, shadow: Prediction
) -> Comparison:
    """Compare a shadow's answer with the live one, by the kind of the live one.

    Uncomparable beside what each kind names: `live_unreadable`, `shadow_unreadable`, `type_mismatch`.
    """
    if isinstance(live, Unreadable) or isinstance(shadow, Unreadable):
        return _unreadable(live, shadow)
    match live, shadow:
        case Classification(), Classification():
            return classification.compare(live, shadow)
        case Embedding(), Embedding():
            return embedding.compare(comparator.threshold, live, shadow)
        case Text(), Text():
            return text.compare(comparator.threshold, live, shadow)
        case Structured(), Structured():
            return structured.compare(comparator, live, shadow)
        case Scalar(), Scalar():
            return scalar.compare(comparator, live, shadow)
        case Raw(), Raw():
            return raw.compare(live, shadow)
    return uncomparable("type_mismatch", f"live is {_kind(live)}, shadow is {_kind(shadow)}")


def is_heavy(live: Prediction, shadow: Prediction) -> bool:
    """Whether comparing the two takes more than a few milliseconds, so that another process should."""
    match live, shadow:
        case Text(), Text():
            return len(live.text) + len(shadow.text) > LIGHT_CHARACTERS
        case Structured(), Structured():
            return any(structured.holds_more_than(LIGHT_FIELDS, answer) for answer in (live, shadow))
        case Embedding(), Embedding():
            return live.values.size + shadow.values.size > LIGHT_DIMENSIONS
    return False


def _unreadable(live: Prediction, shadow: Prediction) -> Comparison:
    """The live answer comes first: without it, no shadow is to blame."""
    sides = [(name, side) for name, side in (("live", live), ("shadow", shadow)) if isinstance(side, Unreadable)]
    return uncomparable(f"{sides[0][0]}_unreadable", "; ".join(f"{name}: {side.reason}" for name, side in sides))


def _kind(prediction: Prediction) -> str:
    return type(prediction).__name__.lower()
