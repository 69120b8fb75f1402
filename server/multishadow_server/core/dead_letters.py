"""Shadow calls that failed and are tried again, or kept for people to look at.

The first outcome counts at once, and what becomes of a dead letter counts nowhere: docs/decisions/dead-letters.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from multishadow_server.core.capture import Capture
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy, backoff
from multishadow_server.core.metadata import without_credentials
from multishadow_server.core.observation import Observation, Outcome

# What is stored of one capture, request and live answer together: 10,000 of them are 2.5 GB at worst.
LARGEST_PAYLOAD = 256 * 1024
LONGEST_DETAIL = 1_000

INTERNAL_ERROR = "internal_error"
UNREADABLE = "unreadable"


class LetterState(StrEnum):
    """Where a dead letter stands: it waits for its next attempt, is left for people, or was answered after all."""

    WAITING = "waiting"
    PARKED = "parked"
    ANSWERED = "answered"


# Of what is parked without a model's policy: our own failures, and messages that nobody can read.
OURS = DeadLetterPolicy(retries=0, most=1_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A failed shadow call, as it is written down.

    Args:
        model, version: whom it was for; empty for a message that nobody can read.
        epoch_id: whose statistics its first outcome is in; None for a message.
        state: waiting or parked.
        outcome, reason, detail: of the first attempt; see Observation.
        wait: seconds until the next attempt.
        keep, most: see DeadLetterPolicy.
        capture: what to ask again, without credentials; None for a message that nobody can read.
        raw: such a message's first bytes.
        cut: whether the payload was too large to be stored whole, so that it can never be asked again.
    """

    model: str = ""
    version: str = ""
    epoch_id: int | None = None
    state: LetterState = LetterState.PARKED
    outcome: str
    reason: str = ""
    detail: str = ""
    wait: float = 0.0
    keep: float = OURS.keep
    most: int = OURS.most
    capture: Capture | None = None
    raw: bytes = b""
    cut: bool = False


def fails_for_now(policy: DeadLetterPolicy, observation: Observation) -> bool:
    """Whether a shadow call failed in a way that the policy tries again."""
    if observation.outcome is Outcome.TIMEOUT:
        return "timeout" in policy.reasons
    return observation.outcome is Outcome.ERROR and observation.reason in policy.reasons


def storable(capture: Capture) -> tuple[Capture, bool]:
    """What of a capture a dead letter stores, and whether it can still be asked again with it.

    The one place where that is decided. Credentials never reach a capture; here they are left out once more, for
    captures of a router that knew fewer names for them.
    """
    kept = replace(capture, metadata=without_credentials(capture.metadata))
    if len(kept.request) + len(kept.response) <= LARGEST_PAYLOAD:
        return kept, True
    half = LARGEST_PAYLOAD // 2
    return replace(kept, request=kept.request[:half], response=kept.response[:half]), False


def letters_of(
    capture: Capture,
    observations: Iterable[Observation],
    policy: DeadLetterPolicy | None,
    *,
    epoch_id: int,
    draw: Callable[[], float],
) -> Iterator[DeadLetter]:
    """The dead letters of one capture: calls that the policy tries again, and those that broke our own code.

    Args:
        capture: it.
        observations: what its shadows made of it.
        policy: its model's; None tries nothing again.
        epoch_id: whose statistics it counts in.
        draw: uniform in [0, 1), for the backoff.
    """
    for seen in observations:
        ours = seen.outcome is Outcome.DROPPED and seen.reason == INTERNAL_ERROR
        again = policy is not None and fails_for_now(policy, seen)
        if not ours and not again:
            continue
        kept, whole = storable(capture)
        terms = policy if policy is not None and again else OURS
        yield DeadLetter(
            model=capture.model,
            version=seen.version,
            epoch_id=epoch_id,
            state=LetterState.WAITING if again and whole else LetterState.PARKED,
            outcome=seen.outcome,
            reason=seen.reason,
            detail=seen.detail[:LONGEST_DETAIL],
            wait=backoff(terms, attempts=1, draw=draw()),
            keep=terms.keep,
            most=terms.most,
            capture=kept,
            cut=not whole,
        )


def unreadable_letter(why: str, raw: bytes) -> DeadLetter:
    """A message of the log that nobody can read."""
    return DeadLetter(
        outcome=UNREADABLE, detail=why[:LONGEST_DETAIL], raw=raw[:LARGEST_PAYLOAD], cut=len(raw) > LARGEST_PAYLOAD
    )
