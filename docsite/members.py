"""What an enumeration's docstring says of its members, under `Attributes:`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from enum import Enum

_ENTRY = re.compile(r"^    ([A-Z_]+): (.*(?:\n {8}.*)*)", flags=re.MULTILINE)


def described(kind: type[Enum]) -> Mapping[str, str]:
    """By member's value: what it means; members that the docstring leaves out are left out."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    said = dict(_ENTRY.findall(section))
    return {str(member.value): said[member.name] for member in kind if member.name in said}


def omissions(kind: type[Enum]) -> Iterator[str]:
    """Members that the docstring says nothing of."""
    said = described(kind)
    for member in kind:
        if str(member.value) not in said:
            yield f"{kind.__module__}.{kind.__name__}.{member.name} is not described under `Attributes:`"
