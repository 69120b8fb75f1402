"""A weekly report as plain values, with everything that is in it: what engineers and programs check it by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from multishadow_server.core.cost import Estimate
from multishadow_server.core.week_counts import Categories
from multishadow_server.core.weekly_report import Case, WeeklyReport
from multishadow_server.core.weeks import Week

# What is worked out of the fields and is worth a name of its own.
_PROPERTIES: Mapping[type, tuple[str, ...]] = {
    Categories: ("observed", "compared", "bad"),
    Case: ("command",),
    Estimate: ("decides_in_days",),
    WeeklyReport: ("partial",),
}


def document(report: WeeklyReport) -> dict[str, Any]:
    """The report: values by their names here, times in seconds since the Unix epoch, infinity as "inf"."""
    found: dict[str, Any] = _plain(report)
    starts, ends = (
        datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        for at in (report.week.starts_at, report.week.ends_at)
    )
    return {"kind": "multishadow.weekly_report", "version": 1, "starts_at": starts, "ends_at": ends, **found}


def _plain(value: Any) -> Any:  # noqa: ANN401, PLR0911  a document is any
    match value:
        case Week():
            return str(value)
        case Enum():
            return value.value
        case float() if not math.isfinite(value):
            return None if math.isnan(value) else str(value)  # JSON knows neither
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            named = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
            return named | {name: _plain(getattr(value, name)) for name in _PROPERTIES.get(type(value), ())}
        case _:
            return value
