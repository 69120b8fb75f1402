"""Every error that multishadow raises on purpose.

    MultishadowError
    ├── InvalidInput            what was asked cannot be understood           INVALID_ARGUMENT
    ├── NotFound                a name that does not exist                    NOT_FOUND
    ├── FailedPrecondition      the present state does not allow it           FAILED_PRECONDITION
    │   └── WritesShadowed          requests that write would be copied
    ├── Conflict                somebody else changed it first                ABORTED
    ├── NotAuthenticated        who asks did not show who they are            UNAUTHENTICATED
    ├── NotPermitted            who asks may not do it                        PERMISSION_DENIED
    ├── MessageTooLarge         over a size limit                             RESOURCE_EXHAUSTED
    ├── DeadlineExpired         the caller's time is over                     DEADLINE_EXCEEDED
    ├── Unavailable             something that is needed is away              UNAVAILABLE
    │   ├── StoreUnavailable        PostgreSQL
    │   ├── LogUnavailable          JetStream
    │   └── VersionUnavailable      a version server
    ├── EvaluationFailed        a flag gives no value; why, in OpenFeature's codes
    ├── LogFull                 the capture log takes no more for now
    ├── LeaseLost               another worker owns the partition now; what was not committed is dropped
    └── EngineFailed            an embedded engine did not start or stop

Messages say what was wrong, where, and what to do. Foreign errors are wrapped once, at the adapter that meets them. The
gRPC status of each stands in `entrypoints/status.py`.
"""

from __future__ import annotations

__all__ = [
    "Conflict",
    "DeadlineExpired",
    "EngineFailed",
    "EvaluationFailed",
    "FailedPrecondition",
    "InvalidInput",
    "LeaseLost",
    "LogFull",
    "LogUnavailable",
    "MessageTooLarge",
    "MultishadowError",
    "NotAuthenticated",
    "NotFound",
    "NotPermitted",
    "StoreUnavailable",
    "Unavailable",
    "VersionUnavailable",
    "WritesShadowed",
]


class MultishadowError(Exception):
    """Base of all errors here."""


class InvalidInput(MultishadowError):
    """What was asked cannot be understood or is not allowed."""


class NotFound(MultishadowError):
    """A name that does not exist."""


class FailedPrecondition(MultishadowError):
    """The present state does not allow what was asked."""


class WritesShadowed(FailedPrecondition):
    """Requests that write would be copied to another version, and so be made twice."""


class Conflict(MultishadowError):
    """Somebody else changed it first; read again and decide again."""


class NotAuthenticated(MultishadowError):
    """Who asks did not show who they are, or what they showed is worth nothing."""


class NotPermitted(MultishadowError):
    """Who asks is known, and may not do it."""


class MessageTooLarge(MultishadowError):
    """A message is over a size limit."""


class DeadlineExpired(MultishadowError):
    """The caller's deadline has passed."""


class Unavailable(MultishadowError):
    """Something that is needed cannot be reached now."""


class StoreUnavailable(Unavailable):
    """PostgreSQL cannot be reached."""


class LogUnavailable(Unavailable):
    """The capture log cannot be reached."""


class VersionUnavailable(Unavailable):
    """A version server cannot be reached."""


class EvaluationFailed(MultishadowError):
    """A flag gives no value.

    Args:
        message: why.
        code: the same as one of OpenFeature's error codes, e.g. `FLAG_NOT_FOUND`
            (https://openfeature.dev/specification/types#error-code).
        key: the flag's.
    """

    def __init__(self, message: str, *, code: str, key: str) -> None:
        super().__init__(message)
        self.code = code
        self.key = key


class LogFull(MultishadowError):
    """The capture log is at its size limit and takes no more until workers catch up."""


class LeaseLost(MultishadowError):
    """Another worker owns the partition now."""


class EngineFailed(MultishadowError):
    """An embedded engine did not start or stop as it should."""
