"""Every error that a call to multishadow raises.

    MultishadowError
    ├── InvalidInput            what was asked cannot be understood           INVALID_ARGUMENT, OUT_OF_RANGE
    ├── NotFound                a name that does not exist                    NOT_FOUND
    ├── FailedPrecondition      the present state does not allow it           FAILED_PRECONDITION
    ├── Conflict                somebody else changed it first                ABORTED, ALREADY_EXISTS
    ├── NotAllowed              who asks may not do it                        UNAUTHENTICATED, PERMISSION_DENIED
    ├── ResourceExhausted       too large, or too much at once                RESOURCE_EXHAUSTED
    ├── DeadlineExpired         no answer in time                             DEADLINE_EXCEEDED
    ├── Unavailable             something that is needed is away              UNAVAILABLE
    │   └── Unreachable             nothing answers at the address            UNAVAILABLE, before anything was sent
    ├── NotSpoken               the server does not know this call            UNIMPLEMENTED
    └── ServerFailed            everything else

The message is the server's own; where there was no server to write one, it says what was tried. Mistakes in the
program that calls (two inputs at once, a ragged tensor) are TypeError and ValueError, as everywhere in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from multishadow_client._address import Address

__all__ = [
    "Conflict",
    "DeadlineExpired",
    "FailedPrecondition",
    "InvalidInput",
    "MultishadowError",
    "NotAllowed",
    "NotFound",
    "NotSpoken",
    "ResourceExhausted",
    "ServerFailed",
    "Unavailable",
    "Unreachable",
]


class MultishadowError(Exception):
    """Base of all errors here.

    Args:
        message: what was wrong, where, and what to do.
        code: the gRPC status.
        request_id: the router's id of the request, where it gave one.
        version: the version that answered with this error; empty when it was the router itself.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        request_id: str = "",
        version: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        self.version = version


class InvalidInput(MultishadowError):
    """What was asked cannot be understood or is not allowed."""


class NotFound(MultishadowError):
    """A name that does not exist."""


class FailedPrecondition(MultishadowError):
    """The present state does not allow what was asked."""


class Conflict(MultishadowError):
    """Somebody else changed it first; read again and decide again."""


class NotAllowed(MultishadowError):
    """Who asks may not do it."""


class ResourceExhausted(MultishadowError):
    """A message is over a size limit, or the server takes no more for now."""


class DeadlineExpired(MultishadowError):
    """No answer came in time; whether a change was made is not known."""


class Unavailable(MultishadowError):
    """Something that is needed cannot be reached now; the same call may succeed later."""


class Unreachable(Unavailable):
    """Nothing answers at the address; the call never left this machine.

    Attributes:
        address: that was called, and how; None where nobody said.
    """

    address: Address | None = None


class NotSpoken(MultishadowError):
    """Whom it came to does not know this call: the wrong port, an older release, or a version that lacks the method."""


class ServerFailed(MultishadowError):
    """The server failed in a way it did not foresee."""


_BY_CODE: Mapping[grpc.StatusCode, type[MultishadowError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExpired,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: NotSpoken,
}

# How gRPC's core begins the status it makes when no connection came about. It tells such a status from a server's
# UNAVAILABLE by its text only (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md says which it generates).
_NEVER_CONNECTED = ("failed to connect to all addresses", "errors resolving ", "DNS resolution failed")


def from_status(code: grpc.StatusCode, details: str, *, address: str, trailing: Mapping[str, str]) -> MultishadowError:
    """The error for a call's status.

    Args:
        code: the status code, not OK.
        details: the status's message; may be empty.
        address: whom the call was made to.
        trailing: the trailing metadata's text values.
    """
    kind, message = _BY_CODE.get(code, ServerFailed), details
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_CONNECTED):
        kind, message = Unreachable, f"nothing answers at {address}: {_cause(details)}"
    elif kind is DeadlineExpired and details in {"", "Deadline Exceeded"}:
        message = f"no answer from {address} in time"
    elif kind is NotSpoken and trailing.get("x-multishadow-version"):
        # A router passed it on: the address is right, and whoever is live cannot do it.
        message = f"{trailing['x-multishadow-version']}, which is live, does not know this call ({details})"
    elif kind is NotSpoken:
        message = f"{address} does not know this call ({details}); is it the right port?"
    elif kind is ServerFailed:
        message = f"{address} failed: {code.name} {details}".rstrip()
    return kind(
        message or code.name,
        code=code,
        request_id=trailing.get("x-multishadow-request-id", ""),
        version=trailing.get("x-multishadow-version", ""),
    )


def _cause(details: str) -> str:
    """The last part of the core's chain of causes, which is the one that says something to a person."""
    return details.rstrip("]").rpartition(": ")[2]
