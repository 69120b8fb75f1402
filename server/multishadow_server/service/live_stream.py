"""A live answer that is streamed: passed on message by message, and kept aside to be captured whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.core.capture import Metadata
from multishadow_server.core.withheld import TOO_LARGE
from multishadow_server.service import ports
from multishadow_server.service.capture_buffer import BUFFER_FULL


@dataclass(frozen=True, kw_only=True, slots=True)
class Streaming:
    """How streamed answers are kept until they end.

    Args:
        collect: makes what puts the messages of one answer together.
        largest: most bytes that are kept of one answer.
        room: most bytes that are kept of all answers under way.
    """

    collect: Callable[[], ports.StreamedAnswer]
    largest: int
    room: int


class Room:
    """Bytes of answers under way, of all of them together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes more; fewer, when it is negative."""
        if size > 0 and self.used + size > self._most:
            return False
        self.used += size
        return True


class KeptAnswer:
    """What is kept of one answer; when it is too much, nothing is, and `lost` says why.

    Attributes:
        lost: the reason for which it is dropped; empty while it is not.
    """

    def __init__(self, streaming: Streaming, room: Room) -> None:
        self._answer: ports.StreamedAnswer | None = streaming.collect()
        self._largest = streaming.largest
        self._room = room
        self._taken = 0
        self.lost = ""

    def add(self, message: bytes) -> None:
        """Keep the next message, if there is room."""
        if self._answer is None:
            return
        self._answer.add(message)
        grown = self._answer.size - self._taken
        if self._answer.size > self._largest:
            self._lose(TOO_LARGE)
        elif self._room.take(grown):
            self._taken += grown
        else:
            self._lose(BUFFER_FULL)

    def whole(self) -> bytes:
        """The whole answer; empty when it is lost. Its room is free from here on."""
        whole = b"" if self._answer is None else self._answer.whole()
        self.release()
        return whole

    def release(self) -> None:
        """Keep nothing of it any more."""
        self._room.take(-self._taken)
        self._answer, self._taken = None, 0

    def _lose(self, reason: str) -> None:
        self.lost = reason
        self.release()


class LiveStream:
    """What the caller gets: messages as they come, then how it ended.

    Args:
        opened: the live version's stream.
        first: its first message; None when it ended without one.
        initial_metadata: as the version sent it.
        version, revision: who answers, and the revision of the flags that chose it.
        kept: takes the messages aside; None when nobody shadows the request.
        on_end: told how it ended, once.
        on_abandon: told that the caller went away before it ended, once.
    """

    def __init__(
        self,
        opened: ports.AnswerStream,
        first: bytes | None,
        *,
        initial_metadata: Metadata,
        version: str,
        revision: int,
        kept: KeptAnswer | None,
        on_end: Callable[[ports.Answer], ports.Answer],
        on_abandon: Callable[[], None],
    ) -> None:
        self._opened = opened
        self._first = first
        self._kept = kept
        self._on_end = on_end
        self._on_abandon = on_abandon
        self._answer: ports.Answer | None = None
        self.initial_metadata = initial_metadata
        self.version = version
        self.revision = revision
        if first is None:
            self._end()

    async def next(self) -> bytes | None:
        """The next message; None at the end."""
        if self._answer is not None:
            return None
        message, self._first = self._first, None
        if message is None:
            message = await self._opened.next()
        if message is None:
            self._end()
        elif self._kept is not None:
            self._kept.add(message)
        return message

    def ended(self) -> ports.Answer:
        """How it ended, without its messages; there once `next` returned None."""
        assert self._answer is not None
        return self._answer

    def close(self) -> None:
        """The caller is gone, or has everything; in the first case the version need not go on."""
        if self._answer is None:
            self._answer = ports.Answer(status_code=1)
            self._opened.cancel()
            self._on_abandon()
        if self._kept is not None:
            self._kept.release()

    def _end(self) -> None:
        self._answer = self._on_end(self._opened.ended())
