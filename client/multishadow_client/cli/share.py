"""Shares as they are typed: 3%, 0.03."""

from __future__ import annotations

import math

import typer


def share(typed: str | float) -> float:
    """Read a share. A number already stays so.

    Raises:
        typer.BadParameter: it is none; says what is.
    """
    if not isinstance(typed, str):
        return typed
    text = typed.strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{typed!r} is no share; write it as 3% or 0.03")
    return value


def chance(typed: str | float) -> float:
    """Read a chance of being wrong: a share that is neither nothing nor more than an even one.

    Raises:
        typer.BadParameter: it is none; says what is.
    """
    value = share(typed)
    # A number is a default, of which 0 leaves it to control.
    if isinstance(typed, str) and not 0 < value <= 0.5:
        raise typer.BadParameter(f"{typed!r} is out of range; allowed are shares above 0 and up to 0.5, usual is 0.05")
    return value
