"""What differs between two flag definitions, line by line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["same", "added", "removed"]

# As people read a definition; what PostgreSQL returns is in the order of its own.
_ORDER = ("state", "variants", "defaultVariant", "targeting", "metadata")
_MARKS: Mapping[str, Kind] = {" ": "same", "+": "added", "-": "removed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of both definitions, or of one of them."""

    kind: Kind
    text: str


def written(definition: Mapping[str, Any] | None) -> str:
    """A definition as JSON for people, its fields in flagd's order; empty for none."""
    if definition is None:
        return ""
    known = {name: definition[name] for name in _ORDER if name in definition}
    return json.dumps({**known, **definition}, indent=2, ensure_ascii=False)


def lines(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Sequence[Line]:
    """All lines of both, in order; empty when they say the same.

    Args:
        before: the former definition; None where there was none.
        after: the latter; None where the flag was deleted.
    """
    old, new = written(before).splitlines(), written(after).splitlines()
    if old == new:
        return ()
    found = difflib.ndiff(old, new, linejunk=None, charjunk=None)
    return tuple(Line(kind=_MARKS[line[0]], text=line[2:]) for line in found if line[0] in _MARKS)
