"""Numbers, times and spans as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

NONE = "–"
"""Where there is nothing to show."""

_SPANS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def count(number: int) -> str:
    """12,345."""
    return f"{number:,}"


def percent(share: float) -> str:
    """A share as percent with two decimals; rounding never makes nothing or everything of it, since that would lie."""
    value = 100 * share
    if 0 < value < 0.005:
        return "<0.01 %"
    return ">99.99 %" if 99.995 <= value < 100 else f"{value:.2f} %"


def percent_range(lower: float, upper: float) -> str:
    """0.62 – 1.05 %."""
    return f"{percent(lower).removesuffix(' %')} – {percent(upper)}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def points_range(lower: float, upper: float) -> str:
    """[−2.90, −1.52]."""
    return f"[{points(lower)}, {points(upper)}]"


def evidence(log_evidence: float) -> str:
    """An e-value from its natural logarithm, which stays finite where the e-value does not."""
    if log_evidence < math.log(0.01):
        return "<0.01"
    if log_evidence < math.log(99_999.5):
        value = math.exp(log_evidence)
        return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
    exponent, mantissa = divmod(log_evidence / math.log(10), 1)
    return f"{10**mantissa:.1f}e{exponent:.0f}"


def p_value(p: float) -> str:
    """A p-value: three decimals, or its size where they would show nothing."""
    if p == 0:
        return "<1e-300"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}".replace("e-0", "e-")


def milliseconds(value: float | None) -> str:
    """A latency; a quantile that falls among the timeouts is infinite."""
    if value is None:
        return NONE
    if math.isinf(value):
        return "∞"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def span(seconds: float) -> str:
    """The two largest units of a span: 11 d 4 h."""
    rest, parts = int(max(0.0, seconds)), []
    for unit, size in _SPANS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(at: Timestamp) -> str:
    """A point in time to the minute, in UTC, since those who read it may sit anywhere."""
    return f"{datetime.fromtimestamp(at.seconds, UTC):%Y-%m-%d %H:%M} UTC"


def clock(at: Timestamp) -> str:
    """A point in time of today, to the second, in UTC."""
    return f"{datetime.fromtimestamp(at.seconds, UTC):%H:%M:%S} UTC"


def ago(at: Timestamp, now: datetime) -> str:
    """How long ago it was."""
    return f"{span(now.timestamp() - at.seconds)} ago"
