"""What a session that has ended adds to its epoch's counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from multishadow_server.core.assignments import FlagHistory
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.rollup import Cell, Family, Rollup, pair_subject
from multishadow_server.core.sessions import BAD_TURN, LOST, OK, SILENT, UNSAMPLED, Cut, OpenSession, Turn

# Turns that are told apart by their place; later ones are counted together.
MOST_PLACES = 20
LATER = f"{MOST_PLACES + 1}+"
WITHOUT_ID = "without_id"


def contribution(session: OpenSession, epoch: Epoch | None, history: FlagHistory | None) -> Rollup:
    """Its counts.

    Args:
        session: it.
        epoch: its epoch; None when nobody knows it any more, and then it is cut.
        history: of its model's flags, from `idle` before it began until now; None when the model is gone.
    """
    turns = session.in_order()
    why = {name: _cut(session, place, turns, epoch, history) for place, name in enumerate(session.candidates)}
    own = {name: "".join(turn.letters[place] for turn in turns) for place, name in enumerate(session.candidates)}
    statuses = {name: _status(own[name], why[name]) for name in session.candidates}
    cells: Counter[Cell] = Counter()
    cells[Cell(Family.SESSION, "", "ended")] = 1
    cells[Cell(Family.SESSION, "", "turns")] = len(turns)
    cells[Cell(Family.SESSION_LENGTH, "", place_of(len(turns)))] = 1
    for name, status in statuses.items():
        cut = why[name]
        if status == UNSAMPLED:
            continue
        if cut is not None:
            cells[Cell(Family.SESSION_CUT, name, cut)] = 1
            continue
        cells[Cell(Family.SESSION, name, status)] = 1
        _count_turns(cells, name, own[name])
    for first, second in combinations(session.candidates, 2):
        cells[Cell(Family.SESSION_PAIR, pair_subject(first, second), statuses[first] + statuses[second])] = 1
    return Rollup(cells)


def place_of(turn: int) -> str:
    """The level of a turn's place in its session, which counts from 1."""
    return str(turn) if turn <= MOST_PLACES else LATER


def _status(letters: str, cut: Cut | None) -> str:
    """A session's status for a candidate: bad with any bad turn; excluded when it is cut, or no turn says anything."""
    if set(letters) <= {UNSAMPLED}:
        return UNSAMPLED
    if cut is not None:
        return SILENT
    if BAD_TURN in letters:
        return BAD_TURN
    return OK if OK in letters else SILENT


def _count_turns(cells: Counter[Cell], version: str, letters: str) -> None:
    first = letters.find(BAD_TURN)
    for index, letter in enumerate(letters):
        if letter not in {OK, BAD_TURN}:
            continue
        place = place_of(index + 1)
        cells[Cell(Family.TURN, version, f"{place}/{letter}")] += 1
        when = "after" if 0 <= first < index else "before"
        cells[Cell(Family.TURN_CASCADE, version, f"{when}/{letter}")] += 1
    if first >= 0:
        cells[Cell(Family.FIRST_DIVERGENCE, version, place_of(first + 1))] += 1


def _cut(
    session: OpenSession, place: int, turns: Sequence[Turn], epoch: Epoch | None, history: FlagHistory | None
) -> Cut | None:
    """Why the session is not known to be whole for a candidate; None when it is."""
    letters = {turn.letters[place] for turn in turns}
    if session.cut is not None:
        return session.cut
    if epoch is None or history is None:
        return Cut.EPOCH_GONE
    if UNSAMPLED in letters:
        return Cut.PARTLY_SAMPLED
    return _missing_turn(session, turns) or _missing_time(session, place, epoch, history) or _lost(letters)


def _lost(letters: set[str]) -> Cut | None:
    return Cut.DROPPED if LOST in letters else None


def _missing_turn(session: OpenSession, turns: Sequence[Turn]) -> Cut | None:
    """By the caller's numbers."""
    numbers = [turn.number for turn in turns if turn.number is not None]
    if len(numbers) < len(turns):
        return None
    if numbers[0] != session.first:
        return Cut.BEGAN_BEFORE
    return Cut.GAP if numbers[-1] - numbers[0] != len(numbers) - 1 else None


def _missing_time(session: OpenSession, place: int, epoch: Epoch, history: FlagHistory) -> Cut | None:
    """By what was decided for the session before its first turn, and after its last."""
    name, first, last = session.candidates[place], session.first_at, session.last_at

    def held(since: float, until: float) -> bool:
        return name in history.held(
            session.key.session_id, live=session.live, candidates=(name,), since=since, until=until
        )

    # Where the caller numbers turns, it is known that none is missing before the last one.
    if any(turn.number is None for turn in session.turns):
        before = first - session.idle
        if before < epoch.opened_at or not epoch.collects_at(before) or not held(before, first):
            return Cut.BEGAN_BEFORE
        if not held(first, last):
            return Cut.GAP
    after = last + session.idle
    if after > epoch.closed_at or not epoch.collects_at(after) or not held(last, after):
        return Cut.WENT_ON
    return None
