"""Capture batches as the bytes of one message of the log."""

from __future__ import annotations

from collections.abc import Mapping

from multishadow.v1 import capture_pb2
from multishadow_server.core.capture import Capture, CaptureBatch, DropTally, Metadata
from multishadow_server.core.prediction import Json
from multishadow_server.structs import encoded, unread

MICROSECONDS = 1_000_000
# protobuf itself reads no more than 34 levels.
_ANY_DEPTH = 100


def encode(batch: CaptureBatch) -> bytes:
    """The bytes of a `multishadow.v1.CaptureBatch`."""
    message = capture_pb2.CaptureBatch(
        router=batch.router,
        drops=[_drop_message(drop) for drop in batch.drops],
        ticked_at_us=round(batch.ticked_at * MICROSECONDS),
    )
    for capture in batch.captures:
        _add(message, capture)
    return message.SerializeToString()


def decode(data: bytes) -> CaptureBatch:
    """Read what `encode` wrote.

    Times keep microseconds. Raises google.protobuf.message.DecodeError or InvalidInput when the bytes are no batch.
    """
    message = capture_pb2.CaptureBatch.FromString(data)
    return CaptureBatch(
        router=message.router,
        captures=tuple(_capture(item) for item in message.captures),
        drops=tuple(_drop(item) for item in message.drops),
        ticked_at=message.ticked_at_us / MICROSECONDS,
    )


def _add(batch: capture_pb2.CaptureBatch, capture: Capture) -> None:
    # Made in its place: a message that is given to the batch's constructor is copied.
    message = batch.captures.add(
        request_id=capture.request_id,
        session_id=capture.session_id,
        model=capture.model,
        method=capture.method,
        attributes=encoded(capture.attributes),
        request=capture.request,
        live_version=capture.live,
        shadow_versions=capture.shadows,
        revision=capture.revision,
        response=capture.response,
        live_latency_us=round(capture.live_latency * MICROSECONDS),
        received_at_us=round(capture.received_at * MICROSECONDS),
        fingerprint=capture.fingerprint,
    )
    # Of most captures there is no more to say, and each field that is set takes its time.
    if capture.status_code or capture.status_message:
        message.status_code, message.status_message = capture.status_code, capture.status_message
    if capture.in_session:
        message.in_session = True
    if capture.turn is not None:
        message.turn = capture.turn
    if capture.live_first_latency is not None:
        message.live_first_latency_us = round(capture.live_first_latency * MICROSECONDS)
    for key, value in capture.metadata:
        message.metadata.add(key=key, value=value.encode() if isinstance(value, str) else value)


def _capture(message: capture_pb2.Capture) -> Capture:
    return Capture(
        request_id=message.request_id,
        session_id=message.session_id,
        model=message.model,
        method=message.method,
        attributes=_attributes(message.attributes),
        request=message.request,
        metadata=_metadata(message),
        live=message.live_version,
        shadows=tuple(message.shadow_versions),
        revision=message.revision,
        response=message.response,
        status_code=message.status_code,
        status_message=message.status_message,
        live_latency=message.live_latency_us / MICROSECONDS,
        received_at=message.received_at_us / MICROSECONDS,
        fingerprint=message.fingerprint,
        live_first_latency=(
            message.live_first_latency_us / MICROSECONDS if message.HasField("live_first_latency_us") else None
        ),
        in_session=message.in_session,
        turn=message.turn if message.HasField("turn") else None,
    )


def _attributes(data: bytes) -> Mapping[str, Json]:
    # Bytes that are no object are found out here, where the batch can be put aside. How deep it is, is the router's
    # matter: one of an earlier version took deeper ones.
    return unread(data, most_levels=_ANY_DEPTH)


def _metadata(message: capture_pb2.Capture) -> Metadata:
    # gRPC: only keys that end in "-bin" carry bytes.
    return tuple(
        (entry.key, entry.value if entry.key.endswith("-bin") else entry.value.decode()) for entry in message.metadata
    )


def _drop_message(drop: DropTally) -> capture_pb2.DropTally:
    return capture_pb2.DropTally(
        model=drop.model,
        live_version=drop.live,
        shadow_versions=drop.shadows,
        revision=drop.revision,
        reason=drop.reason,
        count=drop.count,
        received_at_us=round(drop.received_at * MICROSECONDS),
    )


def _drop(message: capture_pb2.DropTally) -> DropTally:
    return DropTally(
        model=message.model,
        live=message.live_version,
        shadows=tuple(message.shadow_versions),
        revision=message.revision,
        reason=message.reason,
        count=message.count,
        received_at=message.received_at_us / MICROSECONDS,
    )
