"""The capture log: its writing end, its reading end, and who owns which partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.capture import CaptureBatch


class CaptureLog(Protocol):
    """The writing end of the capture log."""

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        ...

    @property
    def largest_message(self) -> int:
        """Most bytes of one message."""
        ...

    async def append(self, partition: int, batch: CaptureBatch, *, message_id: str) -> None:
        """Append one message, durably. Appending the same `message_id` again within two minutes changes nothing.

        Raises:
            LogUnavailable: it cannot be reached; the same call may be repeated with the same id.
            LogFull: it is at its size limit.
            MessageTooLarge: the batch is over `largest_message`; nothing was sent.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedBatch:
    """One message of the log as read: its sequence number grows within the log.

    `unreadable` says why a message could not be read; its batch is empty then, and `raw` holds its first bytes.
    """

    sequence: int
    batch: CaptureBatch
    unreadable: str = ""
    raw: bytes = b""


class PartitionReader(Protocol):
    """The reading end of one partition, for its one owner. Messages arrive in order, from the first unacknowledged."""

    @property
    def log_id(self) -> str:
        """Identity of the log's contents: differs after the log was deleted and made again (sequences restart)."""
        ...

    @property
    def last_sequence(self) -> int:
        """Sequence of the last message that the log ever took, as it was when the partition was opened."""
        ...

    async def fetch(self, *, max_messages: int, wait: float) -> Sequence[LoggedBatch]:
        """Up to `max_messages`, in order; waits up to `wait` seconds for the first one. Raises LogUnavailable."""
        ...

    async def acknowledge(self, batches: Sequence[LoggedBatch]) -> None:
        """They are done with and may be deleted. Raises LogUnavailable."""
        ...

    async def aclose(self) -> None:
        """Stop reading. What was fetched and not acknowledged is delivered again to the next reader."""
        ...


class CaptureReader(Protocol):
    """Opens partitions of the capture log for reading."""

    async def open(self, partition: int) -> PartitionReader:
        """Take over the partition: a reader that had it before gets nothing more. Raises LogUnavailable."""
        ...


class PartitionLeases(Protocol):
    """Which worker owns which partitions. A lease ends by itself when its process or its connection dies."""

    async def balance(self) -> frozenset[int]:
        """Take free partitions up to a fair share, and return those to work on. Raises StoreUnavailable.

        What is held beyond the share stays held and is not returned: stop working on it, then `release` it. After
        StoreUnavailable no lease is held.
        """
        ...

    async def leave(self) -> None:
        """Take part in no sharing-out any more; what is held stays so until it is released. Raises StoreUnavailable."""
        ...

    async def release(self, partition: int) -> None:
        """Give one back; the caller has stopped working on it. Not held: nothing happens. Raises StoreUnavailable."""
        ...

    async def aclose(self) -> None:
        """Give all back."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSize:
    """What the capture log holds: messages that no worker has finished, their bytes, and the most bytes it takes."""

    messages: int = 0
    bytes: int = 0
    most_bytes: int | None = None


class CaptureBacklog(Protocol):
    """How far workers are behind."""

    async def waiting(self) -> int:
        """Messages of the capture log that no worker has finished. Raises LogUnavailable."""
        ...

    async def size(self) -> LogSize:
        """What the capture log holds; nothing while no router has made it. Raises LogUnavailable."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LogState:
    """How the log is.

    Args:
        lag: age of its oldest capture in seconds; 0 when it is empty.
        fill: share of its size that is in use.
        messages, size: how many messages it holds, and their bytes.
    """

    lag: float
    fill: float
    messages: int = 0
    size: int = 0


class LogPressure(Protocol):
    """How the log is, for whoever writes to it."""

    async def look(self) -> LogState:
        """The log as it is now. Raises LogUnavailable."""
        ...
