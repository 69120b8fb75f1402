"""Limits, pauses and writes, between the control API's messages and the core's values."""

from __future__ import annotations

import time

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.version_limits import (
    DEFAULT_FAILED_SHARE,
    DEFAULT_FAILURES,
    DEFAULT_UTILISATION,
    CircuitTerms,
    Pause,
    VersionLimits,
)
from multishadow_server.core.writes import Writes
from multishadow_server.entrypoints.moments import moment


def limits_of(message: pb.VersionLimits) -> VersionLimits:
    """The limits that were asked for."""

    def rate(name: str) -> float | None:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]  # a field's name

    return VersionLimits(
        requests_per_second=rate("requests_per_second"),
        bytes_per_second=rate("bytes_per_second"),
        capacity=rate("capacity"),
        utilisation=message.utilisation if message.HasField("utilisation") else DEFAULT_UTILISATION,
        max_request_bytes=message.max_request_bytes if message.HasField("max_request_bytes") else None,
        circuit=_circuit_of(message.circuit_breaker) if message.HasField("circuit_breaker") else None,
    )


def _circuit_of(message: pb.CircuitBreaker) -> CircuitTerms:
    return CircuitTerms(
        failures=message.failures if message.HasField("failures") else DEFAULT_FAILURES,
        share=message.share if message.HasField("share") else DEFAULT_FAILED_SHARE,
    )


def limits_message(limits: VersionLimits) -> pb.VersionLimits:
    """What a version may be asked at most."""
    circuit = limits.circuit
    return pb.VersionLimits(
        requests_per_second=limits.requests_per_second,
        bytes_per_second=limits.bytes_per_second,
        capacity=limits.capacity,
        utilisation=None if limits.capacity is None else limits.utilisation,
        max_request_bytes=limits.max_request_bytes,
        circuit_breaker=pb.CircuitBreaker(failures=circuit.failures, share=circuit.share) if circuit else None,
    )


def pause_message(pause: Pause | None) -> pb.Pause | None:
    """A pause that holds now; what has ended by itself is none."""
    if pause is None or not pause.holds_at(time.time()):
        return None
    return pb.Pause(since=moment(pause.since), until=moment(pause.until), by=pause.by, reason=pause.reason)


def writes_of(message: pb.WriteTerms) -> Writes:
    """Which requests write."""
    return Writes(all=message.all, methods=tuple(dict.fromkeys(message.methods)))


def writes_message(writes: Writes) -> pb.WriteTerms | None:
    """Which requests write, where any do."""
    return pb.WriteTerms(all=writes.all, methods=writes.methods) if writes else None
