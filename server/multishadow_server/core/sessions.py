"""Open sessions of one partition of the log: turns are added as they are counted, and sessions end by the log's time.

What is known of a session is the set of its turns, so that it does not matter in which order they came: they are put in
order when it has ended. The log's time is the largest that was seen, so the same log always ends the same sessions.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import BAD, Observation, Outcome
from multishadow_server.core.session_terms import SessionTerms

MOST_OPEN = 10_000
MOST_TURNS = 1_000

# A turn's letter for one candidate. Beside those of rollups: `d`, its copy was dropped.
OK, BAD_TURN, SILENT, LOST, UNSAMPLED = "o", "b", "x", "d", "u"
_LETTERS: dict[Outcome, str] = {
    **dict.fromkeys(BAD, BAD_TURN),
    Outcome.OK: OK,
    Outcome.UNCOMPARABLE: SILENT,
    Outcome.DROPPED: LOST,
}


class Cut(StrEnum):
    """Why a session is not known to be whole."""

    BEGAN_BEFORE = "began_before"
    WENT_ON = "went_on"
    GAP = "gap"
    PARTLY_SAMPLED = "partly_sampled"
    DROPPED = "dropped"
    OTHER_EPOCH = "other_epoch"
    EPOCH_GONE = "epoch_gone"
    TOO_LONG = "too_long"
    BOUND = "bound"


class SessionKey(NamedTuple):
    """Which session."""

    model: str
    session_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One turn, as it was counted.

    Args:
        received_at: seconds since the Unix epoch.
        number: the caller's; None where it gave none.
        letters: one for each candidate of the epoch, in its order.
    """

    received_at: float
    number: int | None
    letters: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenSession:
    """A session that may still go on.

    Args:
        key: which.
        epoch_id, candidates, bucket_seconds: of the epoch that its turns belong to.
        live: the epoch's live version.
        idle, first: of its model's terms when its last turn was counted.
        due: when it has ended by the log's time.
        turns: in the order in which they were counted.
        cut: what is known to be missing of it already, for every candidate.
    """

    key: SessionKey
    epoch_id: int
    candidates: tuple[str, ...]
    bucket_seconds: int
    live: str
    idle: float
    first: int
    due: float
    turns: tuple[Turn, ...]
    cut: Cut | None = None

    @property
    def first_at(self) -> float:
        """When its first turn was received, seconds since the Unix epoch."""
        return min(turn.received_at for turn in self.turns)

    @property
    def last_at(self) -> float:
        """When its last turn was received."""
        return max(turn.received_at for turn in self.turns)

    @property
    def last_number(self) -> int | None:
        """The largest number that the caller gave a turn."""
        return max((turn.number for turn in self.turns if turn.number is not None), default=None)

    @property
    def diverged(self) -> bool:
        """Whether some turn was bad for some candidate."""
        return any(BAD_TURN in turn.letters for turn in self.turns)

    @property
    def bucket_start(self) -> int:
        """Start of the time bucket that it counts in: that of its last turn."""
        return int(self.last_at // self.bucket_seconds) * self.bucket_seconds

    def in_order(self) -> Sequence[Turn]:
        """Its turns by the caller's numbers, which are authoritative, or else as they were received."""
        if all(turn.number is not None for turn in self.turns):
            return sorted(self.turns, key=lambda turn: (turn.number, turn.received_at, turn.letters))
        return sorted(self.turns, key=lambda turn: (turn.received_at, turn.letters))


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionChanges:
    """What a commit writes of a partition's open sessions.

    Args:
        time: the log's time, where it went on.
        put: sessions that are new or have new turns.
        ended: those that are taken away.
    """

    time: float | None = None
    put: Sequence[OpenSession] = ()
    ended: Sequence[SessionKey] = ()


NO_CHANGES = SessionChanges()


def letters(observations: Iterable[Observation], candidates: Sequence[str], *, sampled: Iterable[str] = ()) -> str:
    """A turn's letters.

    Args:
        observations: what its shadows made of it.
        candidates: of the epoch.
        sampled: who would have been called, where live failed and nobody was.
    """
    seen = {each.version: _LETTERS.get(each.outcome, UNSAMPLED) for each in observations}
    seen |= dict.fromkeys(sampled, SILENT)
    return "".join(seen.get(name, UNSAMPLED) for name in candidates)


@dataclass(slots=True)
class _Touched:
    put: set[SessionKey] = field(default_factory=set)
    ended: set[SessionKey] = field(default_factory=set)


class OpenSessions:
    """The open sessions of one partition, for its one owner.

    Args:
        stored: as they were committed.
        time: the log's time then.
        most: sessions that are open at once; the one that would end first makes room, and is cut.
    """

    def __init__(self, stored: Iterable[OpenSession] = (), *, time: float | None = None, most: int = MOST_OPEN) -> None:
        self._open = {session.key: session for session in stored}
        self._time = self._saved_time = -math.inf if time is None else time
        self._most = most
        self._due = [(session.due, session.key) for session in self._open.values()]
        heapq.heapify(self._due)
        self._touched = _Touched()

    @property
    def time(self) -> float:
        """The log's, seconds since the Unix epoch."""
        return self._time

    @property
    def open(self) -> Mapping[SessionKey, OpenSession]:
        """All of them."""
        return self._open

    @property
    def next_due(self) -> float:
        """When the first of them ends, if no turn comes; inf without any."""
        while self._due and not self._is_current(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def advance(self, time: float) -> list[OpenSession]:
        """Let the log's time go on; those that ended."""
        self._time = max(self._time, time)
        ended: list[OpenSession] = []
        while self._open and self.next_due <= self._time:
            ended.append(self._end(self._due[0][1]))
        return ended

    def add(self, key: SessionKey, turn: Turn, epoch: Epoch, terms: SessionTerms) -> list[OpenSession]:
        """Add a turn; those that ended by its time, or to make room for it."""
        ended = self.advance(turn.received_at)
        present = self._open.get(key)
        cut = None if present is None else _cut_before(present, epoch)
        if cut is not None:
            ended.append(self._end(key, cut=cut))
            present = None
        elif present is None and len(self._open) >= self._most and self.next_due < math.inf:
            ended.append(self._end(self._due[0][1], cut=Cut.BOUND))
        if present is None:
            self._put(_begun(key, epoch, terms, cut), turn, terms)
        elif turn.number is None or turn.number not in {each.number for each in present.turns}:
            # Otherwise it came twice, in two time buckets: the first one counts.
            self._put(present, turn, terms)
        return ended

    def leave(self, key: SessionKey, time: float) -> list[OpenSession]:
        """A request of the session that belongs to no epoch: what was seen of it is not the whole."""
        ended = self.advance(time)
        if key in self._open:
            ended.append(self._end(key, cut=Cut.OTHER_EPOCH))
        return ended

    def changes(self) -> SessionChanges:
        """What is to be committed since this was asked last."""
        touched, self._touched = self._touched, _Touched()
        time = self._time if self._time > self._saved_time else None
        self._saved_time = self._time
        put = [self._open[key] for key in sorted(touched.put) if key in self._open]
        gone = sorted(key for key in touched.ended if key not in self._open)
        return SessionChanges(time=time, put=put, ended=gone)

    def _put(self, present: OpenSession, turn: Turn, terms: SessionTerms) -> None:
        turns = (*present.turns, turn)
        last_at = max(each.received_at for each in turns)
        session = replace(
            present, turns=turns, idle=terms.idle, first=terms.first, due=last_at + terms.idle + terms.wait
        )
        self._open[present.key] = session
        heapq.heappush(self._due, (session.due, session.key))
        self._touched.put.add(session.key)

    def _end(self, key: SessionKey, *, cut: Cut | None = None) -> OpenSession:
        session = self._open.pop(key)
        self._touched.ended.add(key)
        return session if cut is None else replace(session, cut=cut)

    def _is_current(self, due: float, key: SessionKey) -> bool:
        session = self._open.get(key)
        return session is not None and session.due == due


def _cut_before(present: OpenSession, epoch: Epoch) -> Cut | None:
    """Why a session cannot go on with a turn of this epoch: neither part of it is the whole."""
    if present.epoch_id != epoch.id:
        return Cut.OTHER_EPOCH
    return Cut.TOO_LONG if len(present.turns) >= MOST_TURNS else None


def _begun(key: SessionKey, epoch: Epoch, terms: SessionTerms, cut: Cut | None) -> OpenSession:
    return OpenSession(
        key=key,
        epoch_id=epoch.id,
        candidates=epoch.candidates,
        bucket_seconds=epoch.bucket_seconds,
        live=epoch.live,
        idle=terms.idle,
        first=terms.first,
        due=-math.inf,
        turns=(),
        cut=cut,
    )
