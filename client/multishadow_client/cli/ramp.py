"""Ramps as they are typed: `--ramp 1,5,25`, `--ramp default`, or `--ramp` alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import typer
from typer.core import TyperCommand

DEFAULT = (1.0, 5.0, 25.0)
_OPTION = "--ramp"
_WORD = "default"
_STEPS = re.compile(r"\d+(\.\d+)?%?(,\d+(\.\d+)?%?)*")


def steps(typed: str) -> list[float]:
    """Read steps in percent; control says whether they make a ramp.

    Raises:
        typer.BadParameter: they are none; says what is.
    """
    if typed == _WORD:
        return list(DEFAULT)
    if not _STEPS.fullmatch(typed):
        raise typer.BadParameter(f"{typed!r} is no ramp; write its steps in percent, like 1,5,25, or {_WORD}")
    return [float(step.removesuffix("%")) for step in typed.split(",")]


class CommandWithRamp(TyperCommand):
    """A command whose `--ramp` may stand alone; typer knows no option with a value that may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  typer's context has a private type
        """Parse, with what was left out put in."""
        return super().parse_args(ctx, list(_spelled_out(args)))


def _spelled_out(arguments: Sequence[str]) -> Iterator[str]:
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        yield argument
        if argument == _OPTION and following != _WORD and not following[:1].isdigit():
            yield _WORD
