"""Numbers, times and spans as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

NONE = "–"
"""Where there is nothing to show."""

_NO_STEP = 1e-9
"""What a float may be off by; rounding outwards does not take it for a step."""
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
    """0.62 – 1.05 %: rounded outwards, so that no bound is shown on a side of a limit on which it is not."""
    low = "<0.01" if 0 < lower < 0.0001 else f"{100 * _down(lower):.2f}"
    return f"{low} – {at_most(upper)}"


def at_most(share: float) -> str:
    """An upper bound as percent, rounded up."""
    return ">99.99 %" if 0.9999 < share < 1 else f"{100 * _up(share):.2f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def points_range(lower: float, upper: float) -> str:
    """[−2.90, −1.52]: rounded outwards; a bound keeps its sign."""
    return f"[{points(_down(lower))}, {points(_up(upper))}]"


def _down(share: float, steps: int = 10_000) -> float:
    """Down to the next of so many steps of 1."""
    return math.floor(share * steps + _NO_STEP) / steps


def _up(share: float, steps: int = 10_000) -> float:
    return math.copysign(math.ceil(share * steps - _NO_STEP) / steps, share)


def evidence(log_evidence: float) -> str:
    """An e-value from its natural logarithm, which stays finite where the e-value does not.

    It is rounded down: what is shown as the threshold has reached it.
    """
    if log_evidence < math.log(0.01):
        return "<0.01"
    if log_evidence < math.log(100_000):
        value = math.exp(log_evidence)
        return f"{_down(value, 100):,.2f}" if _down(value, 1) < 10 else f"{_down(value, 1):,.0f}"
    exponent, mantissa = divmod(log_evidence / math.log(10) + _NO_STEP, 1)
    return f"{_down(10**mantissa, 10):.1f}e{exponent:.0f}"


def p_value(p: float) -> str:
    """A p-value: three decimals, or its size where they would show nothing; rounded up, as evidence is down."""
    if p < 1e-300:
        return "<1e-300"
    if p >= 0.001:
        return f"{_up(p, 1_000):.3f}"
    exponent = math.floor(math.log10(p) + _NO_STEP)
    digit = round(_up(p / 10.0**exponent, 1))
    return f"1e{exponent + 1}" if digit == 10 else f"{digit}e{exponent}"


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
