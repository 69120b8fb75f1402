"""Sessions in reports: what was counted of them, and candidates ranked by them.

Turns of one session depend on each other, so a test that takes each for an observation of its own is too sure of
itself. Sessions are independent; every test for requests holds for them, with a session in a request's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from multishadow_server.core.findings import Report
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup, Tables
from multishadow_server.core.session_counts import LATER, MOST_PLACES, WITHOUT_ID
from multishadow_server.core.session_terms import Unit
from multishadow_server.core.sessions import BAD_TURN, OK, SILENT

FAMILIES = (Family.SESSION, Family.SESSION_PAIR)
"""What `as_requests` reads."""

_OUTCOMES = {OK: Outcome.OK, BAD_TURN: Outcome.DIVERGED}


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnCounts:
    """Turns of whole sessions at one place.

    Args:
        turn: counting from 1; 0 stands for all later ones.
        n: those that count.
        bad: of these, the bad ones.
        first: sessions whose first bad turn it is.
    """

    turn: int
    n: int
    bad: int
    first: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateSessions:
    """One candidate's sessions.

    Args:
        version: its name.
        whole: whole sessions with a turn that counts.
        diverged: of these, those with a bad turn.
        uncompared: whole ones without a turn that counts.
        cut: those that are not known to be whole, by why.
        by_turn: by place, in order; those places alone where something counts.
        before: turns before which there was no bad one in their session.
        before_bad: of these, the bad ones.
        after: turns after a bad one.
        after_bad: of these, the bad ones.
    """

    version: str
    whole: int
    diverged: int
    uncompared: int
    cut: Mapping[str, int]
    by_turn: tuple[TurnCounts, ...]
    before: int
    before_bad: int
    after: int
    after_bad: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionReport:
    """What was counted of an epoch's sessions.

    Args:
        ended: sessions, whole or cut.
        turns: of all of them.
        without_id: requests that are in no session.
        candidates: in the epoch's order.
        lengths: (turns, sessions), in order; 0 turns stands for all longer ones.
    """

    ended: int
    turns: int
    without_id: int
    candidates: tuple[CandidateSessions, ...]
    lengths: tuple[tuple[int, int], ...]


def build(rollup: Rollup, candidates: Sequence[str]) -> SessionReport:
    """What was counted of an epoch's sessions, from its counts summed over all buckets."""
    tables = rollup.tables()
    totals = tables.get((Family.SESSION, ""), {})
    lengths = tables.get((Family.SESSION_LENGTH, ""), {})
    return SessionReport(
        ended=totals.get("ended", 0),
        turns=totals.get("turns", 0),
        without_id=totals.get(WITHOUT_ID, 0),
        candidates=tuple(_candidate(tables, version) for version in candidates),
        lengths=tuple((turn, lengths[level]) for turn, level in _PLACES if level in lengths),
    )


def as_requests(rollup: Rollup) -> Rollup:
    """Counts in which whole sessions stand in the place of requests, and those with a bad turn in that of bad ones."""
    cells: dict[Cell, int] = {}
    for (family, subject, level), count in rollup.cells.items():
        if family == Family.SESSION and level in _OUTCOMES:
            cells[Cell(Family.OUTCOME, subject, _OUTCOMES[level])] = count
        elif family == Family.SESSION_PAIR:
            cells[Cell(Family.PAIR, subject, level)] = count
    return Rollup(cells)


def ranked_by_session(requests: Report, sessions: Report) -> Report:
    """A report on requests with everything that is claimed in it taken from one on sessions.

    What was answered, how quickly and how completely is about requests, whatever the ranking is by.
    """
    counted = {candidate.version: candidate for candidate in requests.candidates}
    return replace(
        requests,
        candidates=tuple(
            replace(
                counted[claimed.version],
                divergence=claimed.divergence,
                band=claimed.band,
                band_confirmed=claimed.band_confirmed,
                band_proven=claimed.band_proven,
                ranked=claimed.ranked,
                rank_best=claimed.rank_best,
                rank_worst=claimed.rank_worst,
                in_best_set=claimed.in_best_set,
                comparisons_needed=claimed.comparisons_needed,
                rate_moved=claimed.rate_moved,
                # Of requests, beside a rate of sessions, it would only be misread.
                over_noise=None,
            )
            for claimed in sessions.candidates
        ),
        pairs=sessions.pairs,
        advice=sessions.advice,
        state=sessions.state,
        winner=sessions.winner,
        unit=Unit.SESSION,
    )


_PLACES = (*((turn, str(turn)) for turn in range(1, MOST_PLACES + 1)), (0, LATER))


def _candidate(tables: Tables, version: str) -> CandidateSessions:
    sessions = tables.get((Family.SESSION, version), {})
    turns = tables.get((Family.TURN, version), {})
    first = tables.get((Family.FIRST_DIVERGENCE, version), {})
    cascade = tables.get((Family.TURN_CASCADE, version), {})
    by_turn = (
        TurnCounts(
            turn=turn,
            n=turns.get(f"{level}/{OK}", 0) + turns.get(f"{level}/{BAD_TURN}", 0),
            bad=turns.get(f"{level}/{BAD_TURN}", 0),
            first=first.get(level, 0),
        )
        for turn, level in _PLACES
    )
    before_bad, after_bad = cascade.get(f"before/{BAD_TURN}", 0), cascade.get(f"after/{BAD_TURN}", 0)
    return CandidateSessions(
        version=version,
        whole=sessions.get(OK, 0) + sessions.get(BAD_TURN, 0),
        diverged=sessions.get(BAD_TURN, 0),
        uncompared=sessions.get(SILENT, 0),
        cut=tables.get((Family.SESSION_CUT, version), {}),
        by_turn=tuple(each for each in by_turn if each.n),
        before=cascade.get(f"before/{OK}", 0) + before_bad,
        before_bad=before_bad,
        after=cascade.get(f"after/{OK}", 0) + after_bad,
        after_bad=after_bad,
    )
