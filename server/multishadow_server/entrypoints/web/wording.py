"""How figures and times are written on the page; the filters of its templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from multishadow_client.cli import figures

NONE = "–"
_STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def count(value: int | None) -> str:
    """A whole number with its thousands apart: 1,234,567."""
    return NONE if value is None else f"{value:,}"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage: 0.0312 is 3.12 %."""
    return NONE if value is None or math.isnan(value) else f"{value * 100:.{digits}f} %"


def milliseconds(seconds: float | None) -> str:
    """A latency: 0.0123 is 12.3 ms; a timeout is said to be one."""
    if seconds is None:
        return NONE
    if math.isinf(seconds):
        return "timed out"
    shown = seconds * 1e3
    return f"{shown:,.0f} ms" if shown >= 100 else f"{shown:.3g} ms"


def rate(per_second: float | None) -> str:
    """Something per second: 1,234, 12.3, 0.05."""
    if per_second is None:
        return NONE
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def lag(seconds: float | None) -> str:
    """How far behind somebody is; what is below a second is of no account."""
    if seconds is None:
        return NONE
    return "< 1 s" if seconds < 1 else duration(seconds)


def words(name: str) -> str:
    """A name of the API as people say it: minimum_duration is minimum duration."""
    return name.replace("_", " ")


def code(text: str) -> Markup:
    """A text whose parts between backticks are code: commands to type, mostly."""
    parts = [
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


_KINDS: Mapping[str, Mapping[str, str]] = {
    "verdict": {"PROMOTE": "good", "HOLD": "warn", "REJECT": "bad"},
    "rollout": {"running": "live", "paused": "warn", "completed": "good", "aborted": "bad", "rolled_back": "bad"},
    "standing": {"kept": "good", "waiting": "warn", "broken": "bad", "severe": "bad"},
    "letter": {"waiting": "warn", "parked": "bad", "answered": "good"},
    "probe": {"ok": "good", "wrong": "bad", "failing": "bad"},
}


def _kind_of(what: str) -> Callable[[str], str]:
    """Which kind of badge a word gets; plain where it is neither good nor bad."""
    return lambda word: _KINDS[what].get(word, "plain")


def duration(seconds: float | None) -> str:
    """A span in its two largest units: 93784 is 1 d 2 h."""
    if seconds is None or math.isinf(seconds):
        return NONE
    left, parts = abs(seconds), list[str]()
    for size, unit in _STEPS:
        whole, left = divmod(left, size)
        if whole or (unit == "s" and not parts):
            parts.append(f"{whole:.0f} {unit}")
    return " ".join(parts[:2])


def size(value: float | None) -> str:
    """Bytes in binary units."""
    if value is None:
        return NONE
    power = min(int(math.log(value, 1024)), len(_BYTES) - 1) if value >= 1 else 0
    return f"{value / 1024**power:.3g} {_BYTES[power]}"


def moment(at: float | None) -> str:
    """A point in time, UTC."""
    return NONE if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def machine_moment(at: float | None) -> str:
    """The same for `<time datetime>`, from which the browser shows how long ago it was."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def marked(text: str) -> Markup:
    """Text with what stands in backticks as code, as messages write commands."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


FILTERS: Mapping[str, Callable[..., Any]] = {
    **{f"{what}_kind": _kind_of(what) for what in _KINDS},
    "code": code,
    "count": count,
    "lag": lag,
    "rate": rate,
    "words": words,
    "percent": percent,
    "milliseconds": milliseconds,
    "duration": duration,
    "size": size,
    "moment": moment,
    "machine_moment": machine_moment,
    "marked": marked,
    # As the terminal writes them: the same figures are to look the same everywhere.
    "share": figures.percent,
    "share_range": figures.percent_range,
    "points": figures.points,
    "points_range": figures.points_range,
    "evidence": figures.evidence,
    "p_value": figures.p_value,
}
