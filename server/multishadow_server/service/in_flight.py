"""What may be under way at once in one process: calls of each version, and captures of all partitions."""

from __future__ import annotations

import asyncio
from collections import deque

from multishadow_server.core.model import Version


class CallSlots:
    """Slots for shadow calls, by version; first come, first served. The limits follow the versions as they change."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], int] = {}
        self._queues: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    async def enter(self, version: Version) -> bool:
        """Take a slot; wait for one as long as a call of the version may take, and return False when there was none.

        The wait does not shorten the call: its own time limit begins when it has its slot, so that a queue here never
        makes a version look slow. Hence a capture is done with after twice the version's time limit at most.
        """
        key = (version.model, version.name)
        taken = self._taken.get(key, 0)
        if taken < version.max_in_flight and not self._queues.get(key):
            self._taken[key] = taken + 1
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(turn)
        try:
            await asyncio.wait((turn,), timeout=version.timeout)
        except asyncio.CancelledError:
            self._give_up(version, turn)
            raise
        return turn.done() or self._give_up(version, turn)

    def leave(self, version: Version) -> None:
        """Give a slot back, to the next in line if the limit allows it."""
        key = (version.model, version.name)
        self._taken[key] -= 1
        queue = self._queues.get(key, ())
        while queue and self._taken[key] < version.max_in_flight:
            queue.popleft().set_result(None)
            self._taken[key] += 1

    def _give_up(self, version: Version, turn: asyncio.Future[None]) -> bool:
        if turn.done():
            self.leave(version)
        else:
            self._queues[version.model, version.name].remove(turn)
            turn.cancel()
        return False


class UnderWay:
    """Bounds the captures that the partitions of one process hold at once, in number and in bytes.

    A partition asks for room before it reads its next message, and counts the message once it has read it. So the bound
    is passed by one message of each partition at most.
    """

    def __init__(self, *, captures: int, size: int) -> None:
        self._most_captures = captures
        self._most_bytes = size
        self._bytes = 0
        self.captures = 0
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()

    def take(self, captures: int, size: int) -> None:
        """Count what was read."""
        self._change(captures, size)

    def give_back(self, captures: int, size: int) -> None:
        """It is done with."""
        self._change(-captures, -size)

    def _change(self, captures: int, size: int) -> None:
        self.captures += captures
        self._bytes += size
        if self.captures < self._most_captures and self._bytes < self._most_bytes:
            self._room.set()
        else:
            self._room.clear()
