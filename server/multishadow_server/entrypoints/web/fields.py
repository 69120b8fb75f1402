"""Reading what people put into forms."""

from __future__ import annotations

from collections.abc import Mapping

from multishadow_server.entrypoints.control_messages import free_text
from multishadow_server.errors import InvalidInput

Fields = Mapping[str, str]

# Digits of the largest number that the store can hold.
LONGEST_NUMBER = 18


def text(fields: Fields, name: str) -> str:
    """Somebody's own words, for the records; empty when the field is not there. Raises InvalidInput: too long."""
    return free_text(name, fields.get(name, "").strip())


def number(fields: Fields, name: str) -> float | None:
    """A number; None when nothing was put in. Raises InvalidInput: it is none."""
    said = fields.get(name, "").strip().removesuffix("%").strip()
    if not said:
        return None
    try:
        return float(said)
    except ValueError:
        raise InvalidInput(f"{name}: {said[:40]!r} is no number") from None


def natural(said: str) -> int | None:
    """A whole number that is not negative and that the store can hold; None when the text is none."""
    return int(said) if said.isascii() and said.isdigit() and len(said) <= LONGEST_NUMBER else None


def whole(fields: Fields, name: str) -> int | None:
    """A whole number that is not negative; None when nothing was put in. Raises InvalidInput: it is none."""
    said = fields.get(name, "").strip()
    if not said:
        return None
    found = natural(said)
    if found is None:
        raise InvalidInput(f"{name}: {said[:40]!r} is no whole number")
    return found


def checked(fields: Fields, name: str) -> bool:
    """Whether a box was ticked: browsers leave the others out."""
    return name in fields
