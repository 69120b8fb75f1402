"""What differs between two answers, as values: words of texts, classes, fields of objects, vectors."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_WORDS = 4_000
"""Of longer texts, what is beyond is not compared: the time that it takes grows with the square."""
MOST_FIELDS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """Two texts in pieces: each with whether it stands in both. `cut` says that what is beyond was left out."""

    live: Sequence[tuple[str, bool]]
    candidate: Sequence[tuple[str, bool]]
    cut: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A class or a path with its two values; None where there is none of it."""

    name: str
    live: Any
    candidate: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Vectors:
    """Two embeddings; the cosine is None where a length is 0, or the dimensions differ."""

    live: int
    candidate: int
    cosine: float | None
    farthest: Sequence[Field]


def words(live: str, candidate: str) -> Words:
    """Two texts by words; blanks stay with the word before them."""
    one, other = _split(live), _split(candidate)
    cut = max(len(one), len(other)) > MOST_WORDS
    one, other = one[:MOST_WORDS], other[:MOST_WORDS]
    # Words that come often are words like others here.
    matcher = difflib.SequenceMatcher(None, [word.strip() for word in one], [w.strip() for w in other], autojunk=False)
    left: list[tuple[str, bool]] = []
    right: list[tuple[str, bool]] = []
    for operation, a, b, c, d in matcher.get_opcodes():
        same = operation == "equal"
        if b > a:
            left.append(("".join(one[a:b]), same))
        if d > c:
            right.append(("".join(other[c:d]), same))
    return Words(live=left, candidate=right, cut=cut)


def classes(live: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[Field]:
    """Two classifications by class, the likeliest first: with probabilities, or with the confidence of the label."""
    one, other = _probabilities(live), _probabilities(candidate)
    names = sorted({*one, *other}, key=lambda name: (-max(one.get(name) or 0.0, other.get(name) or 0.0), name))
    return [Field(name=name, live=one.get(name), candidate=other.get(name)) for name in names]


def fields(live: Mapping[str, Any], candidate: Mapping[str, Any]) -> tuple[list[Field], int]:
    """The fields of two objects that differ, by path, and how many are equal."""
    one, other = dict(_flat(live, "")), dict(_flat(candidate, ""))
    paths = list(dict.fromkeys((*one, *other)))[:MOST_FIELDS]
    differing = [Field(name=path, live=one.get(path), candidate=other.get(path)) for path in paths]
    differing = [field for field in differing if (field.name in one) != (field.name in other) or _differ(field)]
    return differing, len(paths) - len(differing)


def vectors(live: Sequence[float], candidate: Sequence[float], *, most: int = 5) -> Vectors:
    """Two embeddings: how near they are, and the dimensions in which they are farthest apart."""
    pairs = list(zip(live, candidate, strict=False))
    length = math.sqrt(math.fsum(x * x for x in live)) * math.sqrt(math.fsum(y * y for y in candidate))
    comparable = len(live) == len(candidate) and length > 0 and math.isfinite(length)
    apart = sorted(enumerate(pairs), key=lambda item: -abs(item[1][0] - item[1][1]))[:most] if comparable else []
    return Vectors(
        live=len(live),
        candidate=len(candidate),
        cosine=math.fsum(x * y for x, y in pairs) / length if comparable else None,
        farthest=[Field(name=str(place), live=x, candidate=y) for place, (x, y) in apart],
    )


def _split(text: str) -> list[str]:
    *parts, last = text.split(" ")
    return [*(f"{part} " for part in parts), last]


def _probabilities(answer: Mapping[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = dict(answer.get("probabilities", {}))
    if label := answer.get("label", ""):
        found.setdefault(label, answer.get("confidence"))
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  JSON is any
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{place}" if path else str(place))
    else:
        yield path, value


def _differ(field: Field) -> bool:
    return bool(field.live != field.candidate)
