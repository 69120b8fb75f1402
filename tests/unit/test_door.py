"""What ends a stream at the router's door."""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc.aio
import pytest

from multishadow_server.core.protocols import PREDICT_STREAM, Protocol
from multishadow_server.entrypoints.door import Asked, Door, Method
from multishadow_server.service.live_path import LivePath, LiveRequest
from multishadow_server.service.live_stream import LiveStream

STREAM = Method(name=PREDICT_STREAM, protocol=Protocol.MULTISHADOW, read=lambda _: Asked("chat", "r-1", "", {}))


class Aborted(Exception):
    """What ends a call."""


class FakeContext:
    """A call; writing to it raises what a test wishes."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.aborted: list[tuple[grpc.StatusCode, str]] = []

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, _message: bytes) -> None:
        raise self.failure

    async def abort(self, code: grpc.StatusCode, details: str, _trailing: object) -> None:
        self.aborted.append((code, details))
        raise Aborted


class FakeStream:
    """A live stream with one message."""

    initial_metadata = ()
    closed = False

    async def next(self) -> bytes:
        return b"message"

    def close(self) -> None:
        self.closed = True


class FakeLivePath:
    """Streams that to everybody."""

    def __init__(self) -> None:
        self.opened = FakeStream()

    async def stream(self, _request: LiveRequest) -> LiveStream:
        return cast("LiveStream", self.opened)


def streaming(failure: Exception) -> tuple[FakeStream, FakeContext, Any]:
    path, context = FakeLivePath(), FakeContext(failure)
    door = Door(cast("LivePath", path), max_message_bytes=100)
    return path.opened, context, door.stream(STREAM, b"", cast("Any", context))


async def test_a_caller_who_is_gone_when_a_message_is_written_ends_the_live_stream_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened, context, ending = streaming(grpc.aio.UsageError("RPC already finished."))
    await ending
    assert (opened.closed, context.aborted, caplog.records) == (True, [], [])


async def test_a_fault_within_a_stream_ends_it_at_once_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    opened, context, ending = streaming(ZeroDivisionError("ours"))
    with pytest.raises(Aborted):
        await ending
    assert opened.closed
    ((code, details),) = context.aborted
    assert code is grpc.StatusCode.INTERNAL
    assert "its log says how" in details
    assert "ZeroDivisionError: ours" in caplog.text
