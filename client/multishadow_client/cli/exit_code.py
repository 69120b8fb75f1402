"""What `shadowctl` answers to a script."""

from __future__ import annotations

from enum import IntEnum

from multishadow_client._errors import Conflict, DeadlineExpired, InvalidInput, NotSpoken, Unreachable


class ExitCode(IntEnum):
    """Fit for runbooks: 3 is a reason to wait, 4 a decision, 1 and 2 are reasons to look at stderr.

    Attributes:
        YES: done, or decided.
        FAILED: control said no, or is away.
        USAGE: the command line, or a file that it names, cannot be used.
        NOT_YET: nothing is wrong, and it is too early to tell, or routers do not follow yet.
        REFUSED: gates, a rollout that goes on, or a guardrail do not allow it; nothing changed.
    """

    YES = 0
    FAILED = 1
    USAGE = 2
    NOT_YET = 3
    REFUSED = 4


class Mistake(Exception):
    """What was typed, or the file that it names, cannot be used; says what is allowed. Ends with USAGE."""


class Refused(Exception):
    """Control's gates do not allow the promotion; says which. Ends with REFUSED."""


def of(error: Exception) -> ExitCode:
    """The exit code of an error."""
    match error:
        case Mistake() | InvalidInput():
            return ExitCode.USAGE
        case Refused():
            return ExitCode.REFUSED
        case _:
            return ExitCode.FAILED


def hint(error: Exception) -> str:
    """What to do about an error whose message cannot know; empty when its message says enough."""
    if isinstance(error, NotSpoken) and error.version:
        return "a version server answers Predict, PredictStream (`predict --stream`), or both: try the other one"
    return _HINTS.get(type(error), "")


_HINTS: dict[type[Exception], str] = {
    Unreachable: "start it with `multishadow serve`, or say where it is: --server HOST:PORT, or MULTISHADOW_CONTROL",
    DeadlineExpired: "--timeout gives it longer; `shadowctl status` tells whether a change was made meanwhile",
    NotSpoken: "control listens on port 50052 by default, the router on 50051",
    Conflict: "look again, then decide again",
}
