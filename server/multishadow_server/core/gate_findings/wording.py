"""The words in which gates tell what they found."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from multishadow_server.core.experiment import in_words
from multishadow_server.core.gates import Awaits, Gate, GateName, GateState

ATTEST = "`shadowctl attest {version} {what} --note TEXT`"


def not_compared(name: GateName, bound: str) -> Gate:
    """The finding of a gate that has nothing to look at yet."""
    return Gate(
        name=name,
        state=GateState.UNKNOWN,
        number="nothing compared",
        bound=bound,
        remedy="requests that can be compared",
    )


def nothing_yet(name: GateName, bound: str, *, number: str, remedy: str) -> Gate:
    """The finding of an alarm that cannot have rung yet: it has not passed, and holds nothing up."""
    return Gate(name=name, state=GateState.UNKNOWN, number=number, bound=bound, remedy=remedy, awaits=Awaits.NOTHING)


def span(seconds: float, *, up: bool = False) -> str:
    """In steps that fit its size, so that it reads well; what is missing is rounded up."""
    step = next((step for step in (86_400, 3_600, 60) if seconds >= 2 * step), 1)
    steps = math.ceil(seconds / step) if up else seconds // step
    return in_words(float(max(0, steps) * step))


def moment(seconds: int) -> str:
    """A point in time, given in seconds since the Unix epoch."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def milliseconds(bounds: tuple[float, float]) -> str:
    """Bounds given in seconds, as a range."""
    lower, upper = (1000 * bound for bound in bounds)
    return f"{_three_digits(lower)}–{_three_digits(upper)} ms"


def _three_digits(number: float) -> str:
    if math.isinf(number):
        return "∞"
    return f"{number:.3g}" if number < 999.5 else f"{float(f'{number:.3g}'):,.0f}"


def percent(share: float) -> str:
    """A share, to three figures."""
    return f"{100 * share:.3g} %"


def at_least(share: float) -> str:
    """Rounded down: nothing claims more than was proven. What a float may be off by is no step."""
    return f"{math.floor(share * 10_000 + 1e-9) / 100:g} %"


def at_most(share: float) -> str:
    """Rounded up, for the same reason."""
    return f"{math.ceil(share * 10_000 - 1e-9) / 100:g} %"
