"""A model's setting: what becomes of its shadow calls that fail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from multishadow_server.errors import InvalidInput

DAY_SECONDS = 86_400.0
# gRPC statuses that another attempt may mend, and `timeout`; https://grpc.io/docs/guides/status-codes/
RETRYABLE = (
    "timeout",
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "CANCELLED",
    "UNKNOWN",
    "INTERNAL",
    "DATA_LOSS",
)
DEFAULT_REASONS = ("timeout", "UNAVAILABLE", "RESOURCE_EXHAUSTED")
MOST_RETRIES = 100
LONGEST_BACKOFF = DAY_SECONDS
LONGEST_KEEP = 90 * DAY_SECONDS
LARGEST_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterPolicy:
    """What becomes of a model's shadow calls that fail.

    Args:
        retries: attempts after the first one; 0 keeps no dead letters of such calls.
        first_backoff, longest_backoff: seconds before the first retry, and at most before any; it doubles in between.
        reasons: `timeout`, or names of gRPC statuses, that are tried again.
        keep: seconds that a dead letter is kept, in whatever state.
        most: dead letters of the model that are kept at once; those beyond are counted and given up.
    """

    retries: int = 5
    first_backoff: float = 1.0
    longest_backoff: float = 300.0
    reasons: tuple[str, ...] = DEFAULT_REASONS
    keep: float = 7 * DAY_SECONDS
    most: int = 10_000


def check(policy: DeadLetterPolicy) -> None:
    """Refuse a policy that cannot be kept to.

    Raises:
        InvalidInput: which field is wrong, and what is allowed.
    """
    # Written so that NaN fails: every comparison with it is false.
    if not 1 <= policy.retries <= MOST_RETRIES:
        raise InvalidInput(f"dead_letters.retries: {policy.retries} is out of range; allowed are 1 to {MOST_RETRIES}")
    if not 0.1 <= policy.first_backoff <= policy.longest_backoff <= LONGEST_BACKOFF:
        raise InvalidInput(
            f"dead_letters.backoff: {policy.first_backoff:g} s to {policy.longest_backoff:g} s is out of range; "
            "allowed are 0.1 s to 1 d, the shorter first, e.g. 1s..5m"
        )
    for reason in policy.reasons:
        if reason not in RETRYABLE:
            raise InvalidInput(
                f"dead_letters.for: {reason[:80]!r} is nothing to be tried again; allowed are {', '.join(RETRYABLE)}"
            )
    if not policy.reasons:
        raise InvalidInput(f"dead_letters.for: name at least one of {', '.join(RETRYABLE)}")
    if not 60 <= policy.keep <= LONGEST_KEEP:
        raise InvalidInput(f"dead_letters.keep: {policy.keep:g} s is out of range; allowed are 1 min to 90 d")
    if not 1 <= policy.most <= LARGEST_MOST:
        raise InvalidInput(f"dead_letters.max: {policy.most} is out of range; allowed are 1 to {LARGEST_MOST}")


def in_a_line(policy: DeadLetterPolicy | None) -> str:
    """A policy for people."""
    if policy is None:
        return "none"
    return (
        f"{policy.retries} retries after {policy.first_backoff:g} s to {policy.longest_backoff:g} s for "
        f"{', '.join(policy.reasons)}, kept for {policy.keep / DAY_SECONDS:g} d, at most {policy.most}"
    )


def kept_to(wanted: DeadLetterPolicy) -> DeadLetterPolicy | None:
    """The policy as a model has it: one without retries is none."""
    return wanted if wanted.retries else None


def record(policy: DeadLetterPolicy | None) -> dict[str, Any] | None:
    """A policy as it is stored; see `policy_of`."""
    return None if policy is None else asdict(policy) | {"reasons": list(policy.reasons)}


def policy_of(stored: Mapping[str, Any] | None) -> DeadLetterPolicy | None:
    """The policy that `record` stored."""
    return DeadLetterPolicy(**{**stored, "reasons": tuple(stored["reasons"])}) if stored else None


def backoff(policy: DeadLetterPolicy, *, attempts: int, draw: float) -> float:
    """Seconds until the next attempt: it doubles with each, and is spread over its upper half.

    Many calls fail together when a version goes away. Spread over less they would come back together, too; spread over
    all of it, some would not wait at all.

    Args:
        policy: the model's.
        attempts: made so far, from 1.
        draw: uniform in [0, 1).
    """
    doubled = policy.first_backoff * math.pow(2.0, min(attempts - 1, 60))
    return min(policy.longest_backoff, doubled) * (0.5 + draw / 2)
