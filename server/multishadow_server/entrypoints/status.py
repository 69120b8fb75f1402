"""The gRPC status of every error: the one place where the two meet."""

from __future__ import annotations

import grpc

from multishadow_server import errors

_STATUS = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.MessageTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.LogFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def status_of(error: errors.MultishadowError) -> grpc.StatusCode:
    """The status that tells a caller of this error; of its nearest ancestor that has one, INTERNAL without any."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), grpc.StatusCode.INTERNAL)
