"""Where dead letters are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.capture import Capture
from multishadow_server.core.dead_letters import LetterState


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; what is empty or None chooses all. `since` is in seconds since the Unix epoch."""

    ids: tuple[int, ...] = ()
    model: str = ""
    version: str = ""
    state: LetterState | None = None
    since: float | None = None
    retry: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterLine:
    """A dead letter without its payload; see `core.dead_letters.DeadLetter`.

    Points in time are seconds since the Unix epoch; `received_at` is None for a message that nobody can read, and
    `next_attempt_at` unless it waits. `similarity` is that of the answer that came in the end.
    """

    id: int
    model: str
    version: str
    request_id: str
    epoch_id: int | None
    state: LetterState
    attempts: int
    outcome: str
    reason: str
    detail: str
    similarity: float | None
    received_at: float | None
    created_at: float
    changed_at: float
    next_attempt_at: float | None
    expires_at: float
    cut: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredLetter:
    """A dead letter with its payload: a capture, or the first bytes of a message."""

    line: LetterLine
    capture: Capture | None
    raw: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedLetter:
    """A dead letter that this process is to try again. `asked` says that somebody asked for it."""

    id: int
    claim: str
    model: str
    version: str
    epoch_id: int | None
    attempts: int
    asked: bool
    capture: Capture


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What an attempt came to.

    Args:
        state: of the letter from now on.
        attempts: calls made by now.
        outcome, reason, detail, similarity: of this attempt; see Observation.
        wait: seconds until the next one, for a letter that goes on waiting.
    """

    state: LetterState
    attempts: int
    outcome: str
    reason: str = ""
    detail: str = ""
    similarity: float | None = None
    wait: float = 0.0


class LetterQueue(Protocol):
    """The dead letters that wait, for workers. Several may take from it at once, and none gets another's."""

    async def claim(self, *, busy: Collection[str], of_each: int) -> Sequence[ClaimedLetter]:
        """Take letters that are due, the longest due first.

        A letter that its taker does not bring back in time, because it died, is due again.

        Args:
            busy: flag keys of the versions to leave out.
            of_each: at most so many of each version.

        Raises:
            StoreUnavailable: not now.
        """
        ...

    async def settle(self, letter: ClaimedLetter, attempt: Attempt) -> bool:
        """Write what an attempt came to; False when the letter was taken by somebody else, or purged, meanwhile.

        Raises:
            StoreUnavailable: not now.
        """
        ...

    async def give_back(self, letters: Sequence[ClaimedLetter]) -> None:
        """They are due again at once: nobody tried. Raises StoreUnavailable."""
        ...


class LetterStore(Protocol):
    """The dead letters, for people. Every method raises StoreUnavailable."""

    async def listed(self, which: LetterFilter, *, before: int, most: int) -> Sequence[LetterLine]:
        """The newest of those whose id is below `before` (0: of all), newest first."""
        ...

    async def letter(self, letter_id: int) -> StoredLetter | None:
        """One with its payload; None when there is none of that id."""
        ...

    async def counted(self, which: LetterFilter) -> Mapping[tuple[str, str, LetterState], int]:
        """How many there are by model, version and state."""
        ...

    async def retry(self, which: LetterFilter, *, retry: str, actor: str) -> tuple[int, int]:
        """Make them due now, under this name; how many, and how many of those chosen cannot be tried again."""
        ...

    async def purge(self, which: LetterFilter, *, most: int, actor: str) -> int:
        """Delete at most so many; how many."""
        ...
