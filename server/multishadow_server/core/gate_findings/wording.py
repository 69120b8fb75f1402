"""The words in which gates tell what they found."""

from __future__ import annotations

import math

from multishadow_server.core.gates import Gate, GateName, GateState

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


def whole(seconds: float) -> int:
    """Seconds in steps that fit their size, so that a span reads well."""
    step = next((step for step in (86_400, 3_600, 60) if seconds >= 2 * step), 1)
    return int(max(0.0, seconds) // step * step)


def milliseconds(bounds: tuple[float, float]) -> str:
    """Bounds given in seconds, as a range."""
    lower, upper = ("∞" if math.isinf(bound) else f"{1000 * bound:.3g}" for bound in bounds)
    return f"{lower}–{upper} ms"


def percent(share: float) -> str:
    """A share, to three figures."""
    return f"{100 * share:.3g} %"


def at_least(share: float) -> str:
    """Rounded down: nothing claims more than was proven."""
    return f"{math.floor(share * 10_000) / 100:g} %"


def at_most(share: float) -> str:
    """Rounded up, for the same reason."""
    return f"{math.ceil(share * 10_000) / 100:g} %"
