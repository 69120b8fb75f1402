"""Results that are dear to make, reused for a moment: several people look at one report, again and again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from multishadow_server.service.ending import end

Value = TypeVar("Value")

# At most a twentieth of the time goes into making one thing again and again, however many look at it.
TIMES_COST = 20.0
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
# Beyond its time a result still stands in while a new one is made; who comes after that waits for the new one.
STANDS_IN_SECONDS = 3_600.0
MOST_KEPT = 64


@dataclass(slots=True)
class _Kept:
    value: Any = None
    made_at: float = float("-inf")
    fresh_until: float = float("-inf")
    making: asyncio.Task[Any] | None = field(default=None)


class Recent:
    """Keeps the newest results by what they are of, each for some times what it cost.

    Nothing is made twice at once. A failure is kept by nobody: whoever asks next tries again.

    Args:
        monotonic: seconds, of a clock that never goes back.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    async def get(
        self, key: Hashable, make: Callable[[], Awaitable[Value]], *, oldest: float = STANDS_IN_SECONDS
    ) -> Value:
        """What is kept of `key`, or what `make` makes of it now.

        Args:
            key: what it is of.
            make: makes it; whatever it raises reaches those that wait for it.
            oldest: seconds since it was made, beyond which it does not stand in for a new one.
        """
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        self._forget_oldest()
        now = self._monotonic()
        if now < kept.fresh_until:
            return kept.value  # type: ignore[no-any-return]  # each key has one kind of value
        if kept.making is None:
            kept.making = asyncio.create_task(self._make(kept, make))
            kept.making.add_done_callback(_read_failure)
        if now < kept.made_at + oldest:
            return kept.value  # type: ignore[no-any-return]  # likewise
        # One that stops waiting must not take it from the others.
        return await asyncio.shield(kept.making)

    def forget(self) -> None:
        """Make everything anew from now on: something was changed."""
        # What is being made may have read what was there before; those that wait for it still get it.
        self._kept.clear()

    async def aclose(self) -> None:
        """Leave nothing behind that is still being made."""
        await end(*(kept.making for kept in self._kept.values() if kept.making is not None))

    async def _make(self, kept: _Kept, make: Callable[[], Awaitable[Value]]) -> Value:
        started = self._monotonic()
        try:
            value = await make()
        except BaseException:
            # What was never made takes nothing else's place.
            if kept.made_at == float("-inf"):
                self._kept = OrderedDict((key, each) for key, each in self._kept.items() if each is not kept)
            raise
        finally:
            kept.making = None
        kept.value, kept.made_at = value, self._monotonic()
        reused = min(max(TIMES_COST * (kept.made_at - started), SHORTEST_SECONDS), LONGEST_SECONDS)
        kept.fresh_until = kept.made_at + reused
        return value

    def _forget_oldest(self) -> None:
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)


def _read_failure(task: asyncio.Task[Any]) -> None:
    """Whoever waits for it gets it; while a former result stands in, nobody does, and asyncio would complain."""
    if not task.cancelled():
        task.exception()
