"""What one version may be asked at most, as a shadow; and the pause of its shadowing.

Limits hold for copies of requests alone: callers are never held back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from multishadow_server.errors import InvalidInput

DEFAULT_UTILISATION = 0.7
LARGEST_RATE = 1e12
LARGEST_CAP = 1 << 40
DEFAULT_FAILURES = 20
DEFAULT_FAILED_SHARE = 0.5
MOST_FAILURES = 10_000
LONGEST_PAUSE = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitTerms:
    """When a version is taken for broken and left in peace.

    Args:
        failures: so many failed calls in a row open its circuit.
        share: this share of the last hundred calls does, too; in (0, 1].
    """

    failures: int = DEFAULT_FAILURES
    share: float = DEFAULT_FAILED_SHARE


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionLimits:
    """What a version may be asked at most; None is without a limit. Rates are of all workers together.

    Args:
        requests_per_second: copies.
        bytes_per_second: of the copies' requests.
        capacity: requests per second that the version can answer at all, of callers and copies together.
        utilisation: the share of `capacity` that may be used, in (0, 1]: copies get what callers leave of it.
        max_request_bytes: larger requests are not copied to it.
        circuit: when it is left in peace; None: never.
    """

    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    capacity: float | None = None
    utilisation: float = DEFAULT_UTILISATION
    max_request_bytes: int | None = None
    circuit: CircuitTerms | None = None

    @property
    def any(self) -> bool:
        """Whether it limits anything."""
        return self != NO_LIMITS

    @property
    def budget(self) -> float | None:
        """Requests per second that the version may be asked, callers' among them; None without a capacity."""
        return None if self.capacity is None else self.capacity * self.utilisation


NO_LIMITS = VersionLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Nobody copies requests to the version for now.

    Args:
        since: seconds since the Unix epoch.
        until: when it ends by itself; None: when somebody resumes it.
        by, reason: who paused it, and why.
    """

    since: float
    until: float | None
    by: str
    reason: str = ""

    def holds_at(self, now: float) -> bool:
        """Whether it has not ended by itself, in seconds since the Unix epoch."""
        return self.until is None or now < self.until


def check(where: str, limits: VersionLimits) -> None:
    """Refuse limits that nothing could keep to.

    Raises:
        InvalidInput: which, and what is allowed.
    """
    # Written so that NaN fails: every comparison with it is false.
    for name in ("requests_per_second", "bytes_per_second", "capacity"):
        rate = getattr(limits, name)
        if rate is not None and not 0 < rate <= LARGEST_RATE:
            raise InvalidInput(f"{where}.{name}: {rate:g} is out of range; allowed is above 0, up to {LARGEST_RATE:g}")
    if not 0 < limits.utilisation <= 1:
        raise InvalidInput(f"{where}.utilisation: {limits.utilisation:g} is out of range; allowed is (0, 1]")
    if limits.capacity is None and limits.utilisation != DEFAULT_UTILISATION:
        raise InvalidInput(f"{where}.utilisation: it is a share of `capacity`, which is missing; say both")
    if limits.max_request_bytes is not None:
        check_cap(f"{where}.max_request_bytes", limits.max_request_bytes)
    if limits.circuit is not None:
        _check_circuit(f"{where}.circuit_breaker", limits.circuit)


def _check_circuit(where: str, terms: CircuitTerms) -> None:
    if not 1 <= terms.failures <= MOST_FAILURES:
        raise InvalidInput(f"{where}.failures: {terms.failures} is out of range; allowed are 1 to {MOST_FAILURES}")
    if not 0 < terms.share <= 1:
        raise InvalidInput(f"{where}.share: {terms.share:g} is out of range; allowed is (0, 1]")


def check_cap(where: str, size: int) -> None:
    """Raise InvalidInput unless it can be the largest request that is copied."""
    if not 1 <= size <= LARGEST_CAP:
        raise InvalidInput(f"{where}: {size} is out of range; allowed are 1 to {LARGEST_CAP}")


def check_pause(seconds: float | None) -> None:
    """Raise InvalidInput unless a pause may be so long."""
    if seconds is not None and not 1 <= seconds <= LONGEST_PAUSE:
        raise InvalidInput(
            f"seconds: {seconds:g} is out of range; a pause lasts from 1 second to 30 days ({LONGEST_PAUSE:.0f} "
            "seconds), or, without a number, until it is resumed"
        )


def settings(limits: VersionLimits) -> Iterator[tuple[str, str]]:
    """Each setting with its value in words, for people who look at what changed."""
    yield "requests per second", _rate(limits.requests_per_second)
    yield "bytes per second", _rate(limits.bytes_per_second)
    yield "capacity", _rate(limits.capacity)
    yield "utilisation", f"{100 * limits.utilisation:g} %"
    yield "max request bytes", cap_in_words(limits.max_request_bytes)
    circuit = limits.circuit
    yield (
        "circuit breaker",
        "none" if circuit is None else f"{circuit.failures} failures in a row, or {100 * circuit.share:g} %",
    )


def cap_in_words(size: int | None) -> str:
    """The largest request that is copied."""
    return "unlimited" if size is None else f"{size:,}"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "unlimited"
    return f"{rate:,.0f}" if rate == math.floor(rate) else f"{rate:g}"
