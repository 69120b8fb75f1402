"""Calling versions, reading their answers, and comparing them."""

from __future__ import annotations

from typing import Protocol

from multishadow_server.core.capture import Metadata
from multishadow_server.core.comparison import Comparison
from multishadow_server.core.hot_value import hot_value
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Prediction


@hot_value
class Answer:
    """What a version answered.

    Args:
        status_code: gRPC status; 0 is OK.
        status_message: its details.
        response: the response's bytes; empty when it failed.
        latency: duration of the call in seconds.
        initial_metadata, trailing_metadata: as the version sent them, for the caller.
        reached: False when the version could not be reached at all, so that the status is not its own.
        first_latency: seconds until the first message of a streamed answer; None where none came.
    """

    status_code: int
    status_message: str = ""
    response: bytes = b""
    latency: float = 0.0
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()
    reached: bool = True
    first_latency: float | None = None


class AnswerStream(Protocol):
    """A streamed answer as it arrives. Nothing is read ahead: who does not ask for the next message holds it up."""

    async def next(self) -> bytes | None:
        """The next message; None at the end, whatever the status. Cancelling it cancels the call."""
        ...

    async def initial_metadata(self) -> Metadata:
        """As the version sent it; there once a message is."""
        ...

    def ended(self) -> Answer:
        """How it ended, without its messages; there once `next` returned None."""
        ...

    def cancel(self) -> None:
        """Give it up. Nothing happens when it has ended."""
        ...


class StreamedAnswer(Protocol):
    """Puts the messages of a streamed answer together."""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        ...

    def add(self, message: bytes) -> None:
        """Take the next message. Never raises."""
        ...

    def whole(self) -> bytes:
        """The whole answer as the bytes of one message."""
        ...


class ModelGateway(Protocol):
    """Calls versions. Requests and responses pass as bytes."""

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        """Call one version; a gRPC error is an Answer with its status, never an exception.

        `deadline` is a point on the `time.monotonic` clock. Cancelling the coroutine cancels the call.
        """
        ...

    def stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> AnswerStream:
        """Call a version that answers in several messages; everything else as `call`."""
        ...

    async def call_stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        """The whole of a streamed answer as one; RESOURCE_EXHAUSTED when it is larger than any message may be."""
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
