"""Replaying: requests that were answered once are sent again, at the pace that somebody wants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.comparison import Comparison, Verdict
from multishadow_server.errors import InvalidInput

DEFAULT_CONCURRENCY = 8
MOST_CONCURRENCY = 1_000
DEFAULT_MOST = 10_000
LARGEST_MOST = 100_000
FASTEST = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayable:
    """One request, with what was known of it.

    Args:
        request: bytes of a PredictRequest.
        request_id, session_id: read from it; requests of one session are sent one after the other.
        method: full gRPC method name.
        response: bytes of the answer that it is compared with; empty: nothing is compared.
        at: when it was received, seconds since the Unix epoch; None: nobody knows.
        latency: how long that answer took, in seconds; None: nobody knows.
        marked: its caller said that it writes.
    """

    request: bytes
    request_id: str
    session_id: str
    method: str
    response: bytes = b""
    at: float | None = None
    latency: float | None = None
    marked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast requests are sent; with neither, as fast as the concurrency allows.

    Args:
        speed: arrivals as they were, so many times as fast; 0: not by arrivals.
        rate: requests per second, evenly; 0: not by a rate.
        concurrency: most requests under way at once.
    """

    speed: float = 0.0
    rate: float = 0.0
    concurrency: int = DEFAULT_CONCURRENCY

    def due(self, *, index: int, at: float | None, first_at: float | None) -> float:
        """When a request is to be sent, in seconds after the first one.

        Args:
            index: its place, counting from 0.
            at: when it was received; one that was received before the first is due at once.
            first_at: when the first was.

        Raises:
            InvalidInput: it is paced by arrivals, and nobody knows this one's.
        """
        if self.rate:
            return index / self.rate
        if not self.speed:
            return 0.0
        if at is None or first_at is None:
            raise InvalidInput(
                f"request {index}: it does not say when it was received (`at`), so arrivals cannot be kept; give a "
                "rate, or send as fast as possible"
            )
        return max(0.0, at - first_at) / self.speed


def check_pace(pace: Pace) -> None:
    """Refuse a pace that cannot be kept. Raises InvalidInput: what is wrong, and what is allowed."""
    # Written so that NaN fails.
    for name, value in (("speed", pace.speed), ("rate", pace.rate)):
        if not 0 <= value <= FASTEST:
            raise InvalidInput(f"{name}: {value:g} is out of range; allowed are numbers above 0 up to {FASTEST:,.0f}")
    if pace.speed and pace.rate:
        raise InvalidInput("speed and rate: give one of them; a rate takes the place of the arrivals")
    if not 1 <= pace.concurrency <= MOST_CONCURRENCY:
        raise InvalidInput(
            f"concurrency: {pace.concurrency} is out of range; allowed are 1 to {MOST_CONCURRENCY} requests at once"
        )


class ReplayOutcome(StrEnum):
    """What became of a replayed request; `answered` where there was nothing to compare with."""

    AGREE = "agree"
    DIVERGED = "diverged"
    UNCOMPARABLE = "uncomparable"
    ERROR = "error"
    TIMEOUT = "timeout"
    ANSWERED = "answered"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayResult:
    """What became of one request.

    Args:
        index: its place, counting from 0.
        replayed: it.
        outcome, reason, detail, similarity: as in an observation.
        latency: of the call in seconds.
        late: how much later than due it was sent, in seconds.
        response: the answer's bytes; empty when it failed.
        version: who answered, where a router says so.
    """

    index: int
    replayed: Replayable
    outcome: ReplayOutcome
    reason: str = ""
    detail: str = ""
    similarity: float | None = None
    latency: float = math.nan
    late: float = 0.0
    response: bytes = b""
    version: str = ""


_OUTCOMES = {
    Verdict.AGREE: ReplayOutcome.AGREE,
    Verdict.DIVERGE: ReplayOutcome.DIVERGED,
    Verdict.UNCOMPARABLE: ReplayOutcome.UNCOMPARABLE,
}


def outcome_of(comparison: Comparison) -> ReplayOutcome:
    """The outcome of an answer that was compared."""
    return _OUTCOMES[comparison.verdict]
