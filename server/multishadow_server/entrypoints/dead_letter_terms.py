"""A model's dead letter policy, between the control API's message and the core's value."""

from __future__ import annotations

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy


def policy_of(message: pb.DeadLetterPolicy) -> DeadLetterPolicy:
    """The policy that was asked for; what is absent is the default."""
    default = DeadLetterPolicy()
    return DeadLetterPolicy(
        retries=message.retries if message.HasField("retries") else default.retries,
        first_backoff=(
            message.first_backoff_seconds if message.HasField("first_backoff_seconds") else default.first_backoff
        ),
        longest_backoff=(
            message.longest_backoff_seconds if message.HasField("longest_backoff_seconds") else default.longest_backoff
        ),
        reasons=tuple(dict.fromkeys(message.reasons)) or default.reasons,
        keep=message.keep_seconds if message.HasField("keep_seconds") else default.keep,
        most=message.max_letters if message.HasField("max_letters") else default.most,
    )


def message(policy: DeadLetterPolicy | None) -> pb.DeadLetterPolicy | None:
    """The policy as it is shown; None when nothing is tried again."""
    if policy is None:
        return None
    return pb.DeadLetterPolicy(
        retries=policy.retries,
        first_backoff_seconds=policy.first_backoff,
        longest_backoff_seconds=policy.longest_backoff,
        reasons=policy.reasons,
        keep_seconds=round(policy.keep),
        max_letters=policy.most,
    )
