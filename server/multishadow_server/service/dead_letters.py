"""Dead letters for people: look, try again, delete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core.dead_letters import LetterState
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service.ports import LetterFilter, LetterLine, LetterStore, StoredLetter

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000
MOST_IDS = 1_000
# What one deletion may take: payloads are large, and a call has seconds.
PURGED_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some dead letters, newest first; `next_before` asks for the next page, and is 0 when there is none."""

    letters: Sequence[LetterLine]
    next_before: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """What asking for another attempt came to: its name, how many it is about, and how many cannot be tried."""

    name: str
    count: int
    impossible: int


def check(which: LetterFilter) -> None:
    """Raise InvalidInput unless the filter can be asked for."""
    if len(which.ids) > MOST_IDS:
        raise InvalidInput(f"filter.ids: {len(which.ids)} are too many; at most {MOST_IDS} are allowed at once")
    for name in ("model", "version", "retry"):
        if len(text := getattr(which, name)) > 256 or "\x00" in text:
            raise InvalidInput(f"filter.{name}: at most 256 characters, and no NUL, are allowed")


async def page(store: LetterStore, which: LetterFilter, *, before: int, size: int) -> Page:
    """One page of them.

    Args:
        store: where they are.
        which: those that are meant.
        before: the last id of the page before; 0 for the first page.
        size: at most so many; 0 for the default.

    Raises:
        InvalidInput: the filter, or the size, is out of range.
        StoreUnavailable: the database is away.
    """
    check(which)
    if not 0 <= size <= LARGEST_PAGE or before < 0:
        raise InvalidInput(f"page_size: {size} is out of range; allowed are 1 to {LARGEST_PAGE}, and 0 for the default")
    size = size or DEFAULT_PAGE
    found = await store.listed(which, before=before, most=size + 1)
    return Page(letters=found[:size], next_before=found[size - 1].id if len(found) > size else 0)


async def letter(store: LetterStore, letter_id: int) -> StoredLetter:
    """One with its payload. Raises NotFound, StoreUnavailable."""
    found = await store.letter(letter_id)
    if found is None:
        raise NotFound(
            f"there is no dead letter {letter_id}; it may be purged, or past its time: see `deadletter list`"
        )
    return found


async def counts(store: LetterStore, which: LetterFilter) -> Mapping[tuple[str, str, LetterState], int]:
    """How many there are by model, version and state. Raises InvalidInput, StoreUnavailable."""
    check(which)
    return await store.counted(which)


async def retry(store: LetterStore, which: LetterFilter, *, actor: str) -> Retry:
    """Have workers try them once more, now.

    Raises:
        NotFound: none of the ids that were named exists.
        InvalidInput, StoreUnavailable: as above.
    """
    check(which)
    name = uuid.uuid4().hex[:12]
    count, impossible = await store.retry(which, retry=name, actor=actor)
    if which.ids and not count and not impossible:
        await _refuse_unknown(store, which)
    return Retry(name=name, count=count, impossible=impossible)


async def _refuse_unknown(store: LetterStore, which: LetterFilter) -> None:
    if not await store.counted(LetterFilter(ids=which.ids)):
        listed = ", ".join(map(str, which.ids[:10]))
        raise NotFound(f"there is no dead letter {listed}; see `deadletter list`")


async def purge(store: LetterStore, which: LetterFilter, *, actor: str) -> tuple[int, bool]:
    """Delete some of them; how many, and whether more are left. Raises InvalidInput, StoreUnavailable."""
    check(which)
    gone = await store.purge(which, most=PURGED_AT_ONCE, actor=actor)
    return gone, gone == PURGED_AT_ONCE
