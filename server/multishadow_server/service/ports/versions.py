"""Calling versions, reading their answers, and comparing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.capture import Metadata
from multishadow_server.core.comparison import Comparison
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a version answered.

    Args:
        status_code: gRPC status; 0 is OK.
        status_message: its details.
        response: the response's bytes; empty when it failed.
        latency: duration of the call in seconds.
        initial_metadata, trailing_metadata: as the version sent them, for the caller.
        reached: False when the version could not be reached at all, so that the status is not its own.
    """

    status_code: int
    status_message: str = ""
    response: bytes = b""
    latency: float = 0.0
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()
    reached: bool = True


class ModelGateway(Protocol):
    """Calls versions. Requests and responses pass as bytes."""

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        """Call one version; a gRPC error is an Answer with its status, never an exception.

        `deadline` is a point on the `time.monotonic` clock. Cancelling the coroutine cancels the call.
        """
        ...

    async def aclose(self) -> None:
        """Close every channel."""
        ...


class PredictionCodec(Protocol):
    """Reads a version's response."""

    def decode(self, comparator: Comparator, response: bytes) -> Prediction:
        """Read the bytes of an answer in the comparator's protocol; `Unreadable` when they are none. Never raises."""
        ...


class Comparer(Protocol):
    """Compares a shadow's answer with the live one."""

    async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
        """Compare the bytes of two answers in the comparator's protocol.

        Never raises: what cannot be read, fails or takes too long is `uncomparable`, with its reason.
        """
        ...


class VersionProbe(Protocol):
    """Asks whether a version's server is there at all."""

    async def connect(self, address: str, *, within: float) -> None:
        """Connect to it and hang up. Raises VersionUnavailable when that takes longer than `within` seconds."""
        ...
