"""How a weekly report says numbers, times and lists: rounded for people; the figures stand beside."""

from __future__ import annotations

import math
from datetime import UTC, datetime

NONE = "–"


def per_cent(share: float | None) -> str:
    """A share with two digits that matter: 0.0312 is 3.1 %, 0.00042 is 0.042 %."""
    if share is None or math.isnan(share):
        return NONE
    value = 100 * share
    if share in {0, 1}:
        return f"{value:.0f} %"
    if value >= 99.5:
        # Nearly all is not all.
        return f"{math.floor(10 * value) / 10:.1f} %"
    digits = max(0, 1 - math.floor(math.log10(value)))
    return f"{value:.{digits}f} %"


def one_in(share: float) -> str:
    """A small share as people count: 0.003 is "about 1 in 330"; empty where that says nothing more."""
    if not 0 < share <= 0.2:
        return ""
    odds = 1 / share
    step = 10 ** max(0, math.floor(math.log10(odds)) - 1)
    return f"about 1 in {round(odds / step) * step:,.0f}"


def minute(seconds: float) -> str:
    """A point in time: "Wed 18 Nov 14:00 UTC"."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%a} {at.day} {at:%b} {at:%H:%M} UTC"


def day(seconds: float) -> str:
    """A day: "Wed 18 Nov"."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%a} {at.day} {at:%b}"


def money(amount: float | None, currency: str) -> str:
    """A price, rounded as prices are: 2,520 USD, 3.42 USD."""
    if amount is None:
        return NONE
    return f"{amount:,.0f} {currency}" if abs(amount) >= 100 else f"{amount:,.2f} {currency}"


def span(days: float | None) -> str:
    """A span in its fitting unit: 0.02 is 29 min, 3.26 is 3.3 d."""
    if days is None or math.isinf(days):
        return NONE
    minutes = days * 1440
    if minutes < 1:
        return "now" if minutes <= 0 else "under 1 min"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{days * 24:.0f} h" if days < 2 else f"{days:.1f} d" if days < 10 else f"{days:.0f} d"


def milliseconds(value: float | None) -> str:
    """A latency in milliseconds."""
    if value is None:
        return NONE
    if math.isinf(value):
        return "timed out"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
