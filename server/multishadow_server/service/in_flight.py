"""What may be under way at once in one process: calls of each version, and captures of all partitions."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from multishadow_server.core.model import Version

# Longest time in line for a slot. With the bound on captures under way it is what one slow version can do to the
# others: they go on at (captures under way) / (this) a second, at worst.
LONGEST_WAIT = 60.0
# A wait that ends so many seconds late says that this process got no time, and then so did the answers that it holds.
HELD_UP = 0.1


@dataclass(slots=True, eq=False)
class _Turn:
    """Somebody in line: `granted` becomes True with a slot, False when it is no use to wait any longer."""

    version: Version
    longest: float
    granted: asyncio.Future[bool]


@dataclass(slots=True)
class _Line:
    """One version's slots, and who waits for one.

    `answered_at` is when the version last answered anything, or when it was first asked after an idle time. `due` is
    when the first in line is looked after next, while `looking` waits for that.
    """

    taken: int = 0
    answered_at: float = 0.0
    due: float = 0.0
    looking: asyncio.TimerHandle | None = None
    waiting: deque[_Turn] = field(default_factory=deque)

    def patience_until(self, turn: _Turn) -> float:
        """Until when it waits, as things are."""
        return min(turn.longest, self.answered_at + turn.version.timeout)


class CallSlots:
    """Slots for shadow calls, by version; first come, first served. The limits follow the versions as they change.

    A version that answers is waited for: a backlog is worked off at its pace, and drops nothing. One that has answered
    nothing for as long as one call may take is taken for hung: then those in line are dropped, so that they hold up
    the other shadows of their captures no longer, and the calls that time out in its slots go on asking for it. Time
    in which this process itself was held up says nothing about a version.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[tuple[str, str], _Line] = {}

    async def enter(self, version: Version) -> bool:
        """Take a slot; False when there was none while the version answered, or within LONGEST_WAIT.

        The wait does not shorten the call: its own time limit begins when it has its slot, so that a line here never
        makes a version look slow.
        """
        line = self._lines.setdefault((version.model, version.name), _Line())
        if line.taken == 0:
            line.answered_at = self._clock()
        if line.taken < version.max_in_flight and not line.waiting:
            line.taken += 1
            return True
        return await self._wait_in(line, version)

    def leave(self, version: Version, *, answered: bool) -> None:
        """Give a slot back, to the next in line if the limit allows it.

        `answered`: whether the version said anything within its time, be it an error.
        """
        line = self._lines[version.model, version.name]
        if answered:
            line.answered_at = self._clock()
        line.taken -= 1
        while line.waiting and line.taken < version.max_in_flight:
            turn = line.waiting.popleft()
            # Whoever was cancelled just now has not left the line yet.
            if not turn.granted.done():
                turn.granted.set_result(True)
                line.taken += 1

    async def _wait_in(self, line: _Line, version: Version) -> bool:
        now = self._clock()
        turn = _Turn(version=version, longest=now + LONGEST_WAIT, granted=asyncio.get_running_loop().create_future())
        if line.patience_until(turn) <= now:
            return False
        line.waiting.append(turn)
        if line.looking is None:
            self._look_later(line, now)
        try:
            return await turn.granted
        except asyncio.CancelledError:
            if turn in line.waiting:
                line.waiting.remove(turn)
            elif not turn.granted.cancelled() and turn.granted.result():
                self.leave(version, answered=False)
            raise

    # One timer for a whole line: a backlog has thousands in it, and who came first is due first.

    def _look_later(self, line: _Line, now: float) -> None:
        line.due = line.patience_until(line.waiting[0])
        line.looking = asyncio.get_running_loop().call_later(line.due - now, self._look, line)

    def _look(self, line: _Line) -> None:
        """Send those away whose patience is over."""
        line.looking = None
        now = self._clock()
        if now > line.due + HELD_UP:
            line.answered_at = now
        while line.waiting:
            turn = line.waiting[0]
            if turn.granted.done():
                line.waiting.popleft()
            elif line.patience_until(turn) <= now:
                line.waiting.popleft()
                turn.granted.set_result(False)
            else:
                return self._look_later(line, now)
        return None


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
