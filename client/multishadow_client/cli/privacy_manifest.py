"""The part of a model file that says what is stored of the model's traffic."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS["TB"] = 10**12
FORMS = ("full", "redacted", "hashed", "none")


def fields(read: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `multishadow.v1.Privacy` from those of the file."""
    redact = read.get("redact", {})
    named = {"keep_seconds": read.get("keep"), "keep_bytes": read.get("keep_bytes"), "payloads": read.get("payloads")}
    return {**redact, **{name: value for name, value in named.items() if value is not None}}


def form(typed: str, wrong: Callable[[str], Exception]) -> str:
    """How payloads are stored. Raises what `wrong` makes of the reason."""
    if typed not in FORMS:
        raise wrong(f"payloads are stored {', '.join(FORMS[:-1])}, or {FORMS[-1]} of them; got {typed!r}")
    return typed


def size(typed: str, wrong: Callable[[str], Exception]) -> int:
    """A number of bytes: 2GiB, 500MB, 1048576. Raises what `wrong` makes of the reason."""
    found = _SIZE.fullmatch(typed)
    if found is None or not float(found[1]):
        raise wrong(f"a size must stand here, e.g. 2GiB, 500MB or 1048576; got {typed!r}")
    return round(float(found[1]) * _UNITS[found[2] or "B"])
