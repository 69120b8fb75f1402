"""What the router records of a sampled request."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core.hot_value import hot_value
from multishadow_server.core.prediction import Json

Metadata = tuple[tuple[str, str | bytes], ...]


@hot_value
class Capture:
    """One sampled request, with the live answer.

    Args:
        request_id: the caller's id, or the router's.
        session_id: empty when the caller gave none.
        model: the model's name.
        method: full gRPC method name.
        attributes: the request's attributes.
        request: the request's bytes.
        metadata: what may go to shadows; no credentials.
        live: name of the version that answered.
        shadows: names of the versions to copy it to.
        revision: the flags' revision of the decision.
        response: the live answer's bytes; empty when it failed.
        status_code: gRPC status of the live call; 0 is OK.
        status_message: the status's details.
        live_latency: the live call's duration in seconds.
        received_at: when the router received it, seconds since the Unix epoch.
        fingerprint: of model and input (`duplicates.fingerprint`), or of the session's turn; empty when nobody took it.
        live_first_latency: seconds until the first message of a streamed answer; None where none was streamed.
        in_session: whether it lies in its session's partition, because its model has sessions.
        turn: the caller's number of this turn of the session; None where there is none.
    """

    request_id: str
    session_id: str
    model: str
    method: str
    attributes: Mapping[str, Json]
    request: bytes
    metadata: Metadata
    live: str
    shadows: tuple[str, ...]
    revision: int
    response: bytes
    status_code: int
    status_message: str
    live_latency: float
    received_at: float
    fingerprint: bytes = b""
    live_first_latency: float | None = None
    in_session: bool = False
    turn: int | None = None

    @property
    def partition_key(self) -> bytes:
        """What it is put into a partition of the log by: requests of one input must meet, to be counted once.

        Turns of one session must meet, to be kept in order.
        """
        if self.in_session:
            return f"{self.model}\0{self.session_id}".encode()
        return self.fingerprint or (self.session_id or self.request_id).encode()

    @property
    def size(self) -> int:
        """See size_of."""
        return size_of(self.request, self.response)


@dataclass(frozen=True, kw_only=True, slots=True)
class DropTally:
    """Captures that never reached the log: how many, why, and whose samples they would have been."""

    model: str
    live: str
    shadows: tuple[str, ...]
    revision: int
    reason: str
    count: int
    received_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureBatch:
    """One message of the capture log; `ticked_at` is what time it is, for a tick (see `core.sessions`), and else 0."""

    router: str
    captures: Sequence[Capture]
    drops: Sequence[DropTally] = ()
    ticked_at: float = 0.0


def size_of(request: bytes, response: bytes) -> int:
    """Bytes that a capture of these holds, near enough for a buffer's bound."""
    return len(request) + len(response) + 512


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of the capture log for a `Capture.partition_key`.

    By its CRC-32, which spreads well enough, is one call, and is the same in every process, unlike `hash`.
    """
    return zlib.crc32(key) % partitions
