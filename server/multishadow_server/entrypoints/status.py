"""Which gRPC status each error is."""

from __future__ import annotations

import grpc

from multishadow_server import errors

_CODES: dict[type[errors.MultishadowError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.MessageTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.LogFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LeaseLost: grpc.StatusCode.ABORTED,
    errors.EngineFailed: grpc.StatusCode.INTERNAL,
}
BY_NUMBER: dict[int, grpc.StatusCode] = {int(code.value[0]): code for code in grpc.StatusCode}


def code_of(error: errors.MultishadowError) -> grpc.StatusCode:
    """The status of an error: its own class's, else its nearest ancestor's; INTERNAL for one that has none.

    INTERNAL and never UNKNOWN: stock flag clients repeat a call that failed with UNKNOWN.
    """
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), grpc.StatusCode.INTERNAL)
