"""A segment as a condition: the levels that reports count by (`core.segments`), read back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from multishadow_server.core.segments import (
    ATTRIBUTES,
    CONFIDENCE,
    DEEPEST,
    HOUR,
    INPUT_SIZE,
    LONGEST_NAME,
    OTHER,
    feature_of,
    value_of,
)
from multishadow_server.errors import InvalidInput

_NUMBER = r"-?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf)"
_RANGE = re.compile(rf"(?P<opening>[\[(])(?P<lower>{_NUMBER}), (?P<upper>{_NUMBER})(?P<closing>[\])])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers between two bounds; `with_lower` and `with_upper` say whether these belong to it."""

    lower: float
    upper: float
    with_lower: bool
    with_upper: bool

    def holds(self, number: float) -> bool:
        """Whether a number lies in it."""
        above = self.lower <= number if self.with_lower else self.lower < number
        return above and (number <= self.upper if self.with_upper else number < self.upper)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentFilter:
    """Requests of one level of one feature.

    Args:
        level: as reports write it: `attributes.country=NO`.
        feature: what it is a level of.
        value: what the feature is there, in words.
        range: the same as a range of numbers; None where it is no number.
        paths: where an attribute is, each a list of keys: a name with dots may be one key or several.
    """

    level: str
    feature: str
    value: str
    range: Range | None = None
    paths: tuple[tuple[str, ...], ...] = ()


def parse(text: str) -> SegmentFilter:
    """The requests that a level counts; `country=NO` is short for `attributes.country=NO`.

    Raises:
        InvalidInput: it is no level, or one that gathers many.
    """
    level = text.strip()
    feature, value = feature_of(level), value_of(level)
    if "=" not in level or not feature:
        raise InvalidInput(f"segment: {level[:80]!r} is none; write attribute=value, such as country=NO")
    if value == OTHER:
        raise InvalidInput(
            f"segment: {OTHER} gathers all values of {feature} beyond the first that were counted; name one of them"
        )
    between = _range(value)
    if feature in {INPUT_SIZE, CONFIDENCE}:
        if between is None:
            raise InvalidInput(f"segment: {value[:80]!r} is no range of {feature}; write one like [100, 200)")
        return SegmentFilter(level=level, feature=feature, value=value, range=between)
    if feature == HOUR:
        if not re.fullmatch(r"[01]\d|2[0-3]", value):
            raise InvalidInput(f"segment: {value[:80]!r} is no hour; 00 to 23 are")
        return SegmentFilter(level=level, feature=feature, value=value)
    name = feature.removeprefix(ATTRIBUTES)
    return SegmentFilter(
        level=f"{ATTRIBUTES}{name}={value}",
        feature=f"{ATTRIBUTES}{name}",
        value=value,
        range=between,
        paths=_paths(name),
    )


def _range(value: str) -> Range | None:
    found = _RANGE.fullmatch(value)
    if found is None:
        # Numbers that are in no bin are written as they are, and those that somebody types are meant exactly.
        return None
    return Range(
        lower=float(found["lower"]),
        upper=float(found["upper"]),
        with_lower=found["opening"] == "[" and found["lower"] != "-inf",
        with_upper=found["closing"] == "]",
    )


def _paths(name: str) -> tuple[tuple[str, ...], ...]:
    """Each way to read a name: the key `a.b`, or `b` in `a`; at most as deep as segments go."""
    parts = name[: LONGEST_NAME * DEEPEST].split(".")
    whole: list[tuple[str, ...]] = [(name,)]
    if 1 < len(parts) <= DEEPEST:
        whole.append(tuple(parts))
    return tuple(whole)
