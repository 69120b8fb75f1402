"""A model's dead letter policy, as model files and listings say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import typer

from multishadow.v1.control_pb2 import DeadLetterPolicy

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_FIELDS = {"for": "reasons", "keep": "keep_seconds", "max": "max_letters"}


def fields(terms: Mapping[str, Any]) -> dict[str, Any]:
    """The message's fields of what a model file says."""
    named = {_FIELDS.get(name, name): value for name, value in terms.items()}
    if "backoff" in named:
        named["first_backoff_seconds"], named["longest_backoff_seconds"] = named.pop("backoff")
    return named


def backoff(typed: str) -> tuple[float, float]:
    """The shortest and the longest pause between attempts, in seconds: `1s..5m`, or `30s` for both.

    Raises:
        typer.BadParameter: it is none; says what is.
    """
    first, dots, longest = typed.replace(" ", "").partition("..")
    matches = [_SPAN.fullmatch(part) for part in ((first, longest) if dots else (first, first))]
    if not all(matches):
        raise typer.BadParameter(f"{typed!r} is no backoff: give the first and the longest pause, e.g. 1s..5m")
    shortest, most = (float(match[1]) * _SECONDS[match[2]] for match in matches if match)
    return shortest, most


def in_a_line(policy: DeadLetterPolicy) -> str:
    """What becomes of failed shadow calls."""
    if not policy.retries:
        return "no retries"
    pauses = f"{_span(policy.first_backoff_seconds)}..{_span(policy.longest_backoff_seconds)}"
    return f"{policy.retries} retries after {pauses} for {', '.join(policy.reasons)}"


def _span(seconds: float) -> str:
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms"
