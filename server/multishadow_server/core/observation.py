"""What one shadow made of one capture."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The taxonomy of observations. Failures (`error`, `timeout`) count as bad, like `diverged`: intention to treat.

    `duplicate` is a copy that was not sent, because one of the same input counts in the time bucket already.
    """

    OK = "ok"
    DIVERGED = "diverged"
    ERROR = "error"
    TIMEOUT = "timeout"
    UNCOMPARABLE = "uncomparable"
    DROPPED = "dropped"
    DUPLICATE = "duplicate"


BAD = frozenset({Outcome.DIVERGED, Outcome.ERROR, Outcome.TIMEOUT})
COUNTED = BAD | {Outcome.OK}


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What one shadow made of one capture.

    Args:
        version: the shadow's name.
        outcome: see Outcome.
        reason: why, for `uncomparable`, `dropped` and `error` (the gRPC status' name); a short snake_case or status
            word, so that it can be a key of counts.
        detail: the same for a person, possibly empty.
        similarity: in [0, 1]; 0 for failures, None where it is not counted.
        latency: the shadow call's duration in seconds; None when it was not called, or timed out.
        confidence_delta: shadow's confidence minus live's, for classifications that both give one.
        live_confidence: live's confidence, for classifications that give one.
        response: the shadow's bytes, for stored samples.
        first_latency: seconds until the first message of a streamed answer; None where none came.
    """

    version: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    similarity: float | None = None
    latency: float | None = None
    confidence_delta: float | None = None
    live_confidence: float | None = None
    response: bytes = b""
    first_latency: float | None = None
