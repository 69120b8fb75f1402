"""Spans of time as they are typed: 90s, 15m, 12h, 14d, 1d12h."""

from __future__ import annotations

import re

import typer

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])\s*")


def seconds(typed: str | int) -> int:
    """Read a span; whole seconds. A default that is a number already stays so.

    Raises:
        typer.BadParameter: it is none; says what is.
    """
    if isinstance(typed, int):
        return typed
    parts = list(_PART.finditer(typed))
    total = sum(float(part[1]) * _UNITS[part[2]] for part in parts)
    if "".join(part[0] for part in parts) != typed.lstrip() or total < 1:
        raise typer.BadParameter(f"{typed!r} is no span of time of a second or more: 90s, 15m, 12h, 14d, 1d12h")
    return round(total)
