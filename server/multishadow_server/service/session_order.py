"""One turn of a session at a time, in order; other sessions go on meanwhile.

Turns that came through different routers may lie in the log out of order. So a turn whose predecessor is not known to
have gone waits for it, but not for ever.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from multishadow_server.core.capture import Capture
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.sessions import SessionKey

# Sessions whose last turn's number is remembered. Forgetting one costs its next turn a wait.
MOST_REMEMBERED = 50_000

_Place = tuple[float, float, str]


@dataclass(slots=True, eq=False)
class Ticket:
    """A turn's place in its session's line.

    Args:
        key: the session.
        place: what it is ordered by.
        number: the caller's; None where there is none.
        first: the number that the session's first turn has.
        due: when it has waited long enough for turns before it, on the monotonic clock.
    """

    key: SessionKey
    place: _Place
    number: int | None
    first: int
    due: float
    look: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Line:
    """The turns of one session that have come, and are not done with."""

    waiting: list[Ticket] = field(default_factory=list)
    busy: bool = False


class SessionOrder:
    """Keeps the turns of one partition's sessions in order.

    Args:
        gone: the last turn's number by session, of turns that are committed.
        clock: the time, in seconds since the Unix epoch.
        monotonic: a clock that is never set.
    """

    def __init__(
        self,
        gone: Mapping[SessionKey, int],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gone = dict(gone)
        self._lines: dict[SessionKey, _Line] = {}
        self._clock = clock
        self._monotonic = monotonic

    def enter(self, capture: Capture, terms: SessionTerms) -> Ticket:
        """Take a place in the session's line, in the order of the log. It must be followed by `turn`."""
        # From when its caller had the answer, and could send the next turn; never longer than `wait` from now.
        late = capture.received_at + capture.live_latency + terms.wait - self._clock()
        ticket = Ticket(
            key=SessionKey(capture.model, capture.session_id),
            place=_place(capture),
            number=capture.turn,
            first=terms.first,
            due=self._monotonic() + min(max(0.0, late), terms.wait),
        )
        line = self._lines.setdefault(ticket.key, _Line())
        bisect.insort(line.waiting, ticket, key=lambda waiting: waiting.place)
        _call_first(line)
        return ticket

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait until it is this turn's turn; until the block ends, no other one of the session has it."""
        line = self._lines[ticket.key]
        try:
            await self._first_in(line, ticket)
        except BaseException:
            line.waiting.remove(ticket)
            self._next(ticket.key, line)
            raise
        line.waiting.remove(ticket)
        line.busy = True
        try:
            yield
        finally:
            line.busy = False
            self._remember(ticket)
            self._next(ticket.key, line)

    async def _first_in(self, line: _Line, ticket: Ticket) -> None:
        while True:
            ticket.look.clear()
            first = not line.busy and line.waiting[0] is ticket
            patience = ticket.due - self._monotonic()
            if first and (patience <= 0 or self._nothing_is_missing(ticket)):
                return
            try:
                async with asyncio.timeout(patience if first else None):
                    await ticket.look.wait()
            except TimeoutError:
                continue

    def _nothing_is_missing(self, ticket: Ticket) -> bool:
        if ticket.number is None:
            return False
        return ticket.number <= self._gone.get(ticket.key, ticket.first - 1) + 1

    def _remember(self, ticket: Ticket) -> None:
        if ticket.number is None:
            return
        # Put at the end, so that what is forgotten is the session that was silent for longest.
        self._gone[ticket.key] = max(ticket.number, self._gone.pop(ticket.key, ticket.number))
        if len(self._gone) > MOST_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _next(self, key: SessionKey, line: _Line) -> None:
        if line.waiting:
            _call_first(line)
        elif not line.busy:
            self._lines.pop(key, None)


def _place(capture: Capture) -> _Place:
    """Numbered turns by their number, and others by when they were received; a request id breaks ties."""
    by = capture.received_at if capture.turn is None else float(capture.turn)
    return by, capture.received_at, capture.request_id


def _call_first(line: _Line) -> None:
    line.waiting[0].look.set()
