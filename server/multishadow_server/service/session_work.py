"""What one partition's owner does about sessions: turns in order, sessions that end, ticks when no traffic comes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from multishadow_server.core.assignments import FlagHistory
from multishadow_server.core.capture import Capture
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.session_counts import WITHOUT_ID, contribution
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.sessions import OpenSession, OpenSessions, SessionChanges, SessionKey, Turn, letters
from multishadow_server.errors import MultishadowError
from multishadow_server.service.micro_batch import Finished
from multishadow_server.service.ports import SessionStore
from multishadow_server.service.session_order import SessionOrder, Ticket
from multishadow_server.service.shadowing import Fate, Shadowed, sampled_candidates

# A tick is written when a session should have ended so long ago, and again after this while none was read.
TICK_GRACE_SECONDS = 2.0
TICK_AGAIN_SECONDS = 10.0
# Read of the flags' history beyond what the oldest session asks for.
HISTORY_MARGIN_SECONDS = 60.0

Rollups = Mapping[tuple[int, int], Rollup]
Tick = Callable[[int, float], Awaitable[None]]
"""Appends a tick to a partition, with the time in seconds since the Unix epoch."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What a run of messages did to a partition's sessions.

    Args:
        rollups: counts of those that ended, by (epoch id, start of the time bucket).
        changes: what is to be committed of those that are open.
        divergent: those of all that were touched in which some turn was bad.
        ended: how many ended.
    """

    rollups: Rollups
    changes: SessionChanges
    divergent: frozenset[SessionKey]
    ended: int


class SessionWork:
    """One partition's sessions, for its one owner.

    Args:
        partition: which.
        store: where the flags' history is.
        sessions: those that are open.
        tick: appends a tick; None: sessions wait for traffic.
        monotonic: a clock that is never set.
    """

    def __init__(
        self,
        partition: int,
        store: SessionStore,
        sessions: OpenSessions,
        *,
        tick: Tick | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partition = partition
        self._store = store
        self._sessions = sessions
        self._tick = tick
        self._monotonic = monotonic
        self._seen_at = monotonic()
        self._ticked_at = -math.inf
        gone = ((key, session.last_number) for key, session in sessions.open.items())
        self._order = SessionOrder({key: number for key, number in gone if number is not None})

    @classmethod
    async def taken_over(cls, store: SessionStore, log_id: str, partition: int, *, tick: Tick | None) -> SessionWork:
        """The partition's sessions as they were committed. Raises StoreUnavailable."""
        stored = await store.open_sessions(log_id, partition)
        return cls(partition, store, OpenSessions(stored.put, time=stored.time), tick=tick)

    # --- in order ---

    def enter(self, captures: Sequence[Capture], configuration: Configuration) -> Sequence[Ticket | None]:
        """Take their places, in the order of the log; None for those that are in no session."""
        return [self._order.enter(each, _terms(each, configuration)) if each.in_session else None for each in captures]

    def turn(self, ticket: Ticket) -> AbstractAsyncContextManager[None]:
        """Wait for a capture's turn, and have it until the block ends."""
        return self._order.turn(ticket)

    # --- what is counted ---

    async def count(self, finished: Sequence[Finished]) -> Counted:
        """Add these messages' turns, in the order of the log; what comes of it is to be committed with them.

        Raises:
            StoreUnavailable: the flags' history cannot be read; the partition must be taken over anew.
        """
        ended: list[OpenSession] = []
        time_before = self._sessions.time
        touched: set[SessionKey] = set()
        without_id: list[Shadowed] = []
        for each in finished:
            models = {name for name, model in each.configuration.models.items() if model.sessions is not None}
            for shadowed in each.shadowed:
                capture = shadowed.capture
                if capture.in_session:
                    ended += self._add(shadowed, each.configuration)
                    touched.add(SessionKey(capture.model, capture.session_id))
                elif capture.model in models and not capture.session_id and shadowed.fate is Fate.OBSERVED:
                    without_id.append(shadowed)
            if each.logged.batch.ticked_at:
                ended += self._sessions.advance(each.logged.batch.ticked_at)
        if self._sessions.time > time_before:
            self._seen_at = self._monotonic()
        rollups = await self._contributions(ended, finished[-1].configuration)
        for shadowed in without_id:
            assert shadowed.epoch is not None
            bucket = shadowed.epoch.bucket_start(shadowed.capture.received_at)
            _put(rollups, (shadowed.epoch.id, bucket), Rollup({Cell(Family.SESSION, "", WITHOUT_ID): 1}))
        present = [self._sessions.open[key] for key in touched & self._sessions.open.keys()]
        divergent = frozenset(session.key for session in (*ended, *present) if session.diverged)
        return Counted(rollups=rollups, changes=self._sessions.changes(), divergent=divergent, ended=len(ended))

    def _add(self, shadowed: Shadowed, configuration: Configuration) -> list[OpenSession]:
        capture, epoch = shadowed.capture, shadowed.epoch
        key = SessionKey(capture.model, capture.session_id)
        if epoch is None:
            return self._sessions.leave(key, capture.received_at)
        if any(each.outcome is Outcome.DUPLICATE for each in shadowed.observations):
            return self._sessions.advance(capture.received_at)
        failed = shadowed.fate is Fate.LIVE_FAILED
        sampled = sampled_candidates(capture, epoch) if failed else ()
        turn = Turn(
            received_at=capture.received_at,
            number=capture.turn,
            letters=letters(shadowed.observations, epoch.candidates, sampled=sampled),
        )
        return self._sessions.add(key, turn, epoch, _terms(capture, configuration))

    async def _contributions(
        self, ended: Sequence[OpenSession], configuration: Configuration
    ) -> dict[tuple[int, int], Rollup]:
        rollups: dict[tuple[int, int], Rollup] = {}
        epochs = {epoch.id: epoch for epoch in configuration.epochs}
        histories = {
            name: await self._history(name, [each for each in ended if each.key.model == name], configuration)
            for name in sorted({each.key.model for each in ended})
        }
        for session in ended:
            own = contribution(session, epochs.get(session.epoch_id), histories[session.key.model])
            _put(rollups, (session.epoch_id, session.bucket_start), own)
        return rollups

    async def _history(
        self, model: str, ended: Sequence[OpenSession], configuration: Configuration
    ) -> FlagHistory | None:
        known = configuration.models.get(model)
        if known is None:
            return None
        since = min(each.first_at - each.idle for each in ended) - HISTORY_MARGIN_SECONDS
        keys = [version.flag_key for version in known.versions]
        return FlagHistory(known, await self._store.flag_changes(keys, since=since))

    # --- when no traffic comes ---

    async def look_at_the_clock(self) -> None:
        """Write a tick when a session should have ended and nothing in the log says so.

        The log's time goes on from where it was: this machine's clock may be another one than the routers'.
        """
        elapsed = self._monotonic() - self._seen_at
        now = self._sessions.time + elapsed
        overdue = self._sessions.next_due + TICK_GRACE_SECONDS <= now
        if self._tick is None or not overdue or self._monotonic() < self._ticked_at + TICK_AGAIN_SECONDS:
            return
        self._ticked_at = self._monotonic()
        try:
            await self._tick(self._partition, now)
        except MultishadowError as error:
            _logger.warning("sessions of partition %d end later: %s", self._partition, error)


def _terms(capture: Capture, configuration: Configuration) -> SessionTerms:
    model = configuration.models.get(capture.model)
    # Captures that were on their way when their model's sessions were given up.
    return (model.sessions if model else None) or SessionTerms()


def _put(rollups: dict[tuple[int, int], Rollup], where: tuple[int, int], added: Rollup) -> None:
    rollups[where] = rollups.get(where, Rollup()) + added
