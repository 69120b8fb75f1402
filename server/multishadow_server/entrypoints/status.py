"""Which gRPC status each error is."""

from __future__ import annotations

import grpc

from multishadow_server import errors

_CODES: dict[type[errors.MultishadowError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.MessageTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.LogFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LeaseLost: grpc.StatusCode.ABORTED,
    errors.EngineFailed: grpc.StatusCode.INTERNAL,
}
# As flagd's clients read them: https://flagd.dev/reference/specifications/providers/#error-codes-and-flag-evaluation-errors
EVALUATION_CODES: dict[str, grpc.StatusCode] = {
    "FLAG_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "TYPE_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "PARSE_ERROR": grpc.StatusCode.DATA_LOSS,
}
BY_NUMBER: dict[int, grpc.StatusCode] = {int(code.value[0]): code for code in grpc.StatusCode}


def code_of(error: errors.MultishadowError) -> grpc.StatusCode:
    """The status of an error: its own class's, else its nearest ancestor's; INTERNAL for one that has none.

    INTERNAL and never UNKNOWN: stock flag clients repeat a call that failed with UNKNOWN.
    """
    if isinstance(error, errors.EvaluationFailed):
        return EVALUATION_CODES.get(error.code, grpc.StatusCode.INTERNAL)
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), grpc.StatusCode.INTERNAL)
