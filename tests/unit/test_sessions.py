"""Open sessions of a partition: when they end, what is cut, and what one that ended adds to the counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_shadowing import an_epoch

from multishadow_server.core import session_counts, session_report, sessions
from multishadow_server.core.assignments import FlagChange, FlagHistory
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.model import Model, Version
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.sessions import Cut, OpenSession, OpenSessions, SessionKey, Turn

EPOCH = an_epoch("A", "B")
TERMS = SessionTerms(idle=100.0, wait=1.0)
NUMBERED = SessionTerms(idle=100.0, wait=1.0, turn="turn")
MODEL = Model(
    name="spam", versions=tuple(Version(model="spam", name=name, address="x:1") for name in ("base", "A", "B"))
)
ALWAYS = FlagHistory(MODEL, [])
BEGAN = 10_000.0


def key(name: str) -> SessionKey:
    return SessionKey("spam", name)


def turn(at: float, letters: str = "oo", number: int | None = None) -> Turn:
    return Turn(received_at=BEGAN + at, number=number, letters=letters)


def counted(turns: Iterable[Turn], *, terms: SessionTerms = TERMS, cut: Cut | None = None) -> dict[str, int]:
    """What one session of these turns adds, as `family subject level`."""
    state = OpenSessions()
    for each in turns:
        assert not state.add(key("s"), each, EPOCH, terms)
    (ended,) = state.advance(math.inf)
    return named(session_counts.contribution(replace(ended, cut=cut), EPOCH, ALWAYS))


def named(rollup: Rollup) -> dict[str, int]:
    return {" ".join(cell): count for cell, count in rollup.cells.items()}


# --- when they end ------------------------------------------------------------------------------------------------


def test_a_session_ends_when_the_logs_time_is_an_idle_time_and_a_wait_past_its_last_turn() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(0), EPOCH, TERMS)
    state.add(key("s"), turn(50), EPOCH, TERMS)
    assert state.next_due == BEGAN + 151
    assert not state.advance(BEGAN + 150.9)
    assert not state.add(key("t"), turn(150), EPOCH, TERMS)
    (ended,) = state.advance(BEGAN + 151)
    assert (ended.key, len(ended.turns), ended.cut) == (key("s"), 2, None)
    assert list(state.open) == [key("t")]


def test_a_turn_after_its_session_ended_begins_another() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(0), EPOCH, TERMS)
    (ended,) = state.add(key("s"), turn(101), EPOCH, TERMS)
    assert [each.received_at for each in ended.turns] == [BEGAN]
    assert [each.received_at for each in state.open[key("s")].turns] == [BEGAN + 101]


def test_the_logs_time_never_goes_back() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(500), EPOCH, TERMS)
    (ended,) = state.add(key("late"), turn(0), EPOCH, TERMS) or state.advance(BEGAN)
    assert ended.key == key("late")
    assert state.time == BEGAN + 500


def test_a_session_over_two_epochs_is_cut_in_both() -> None:
    state, later = OpenSessions(), replace(EPOCH, id=2)
    state.add(key("s"), turn(0), EPOCH, TERMS)
    (first,) = state.add(key("s"), turn(10), later, TERMS)
    (second,) = state.advance(math.inf)
    assert [(each.epoch_id, each.cut, len(each.turns)) for each in (first, second)] == [
        (1, Cut.OTHER_EPOCH, 1),
        (2, Cut.OTHER_EPOCH, 1),
    ]


def test_a_session_with_a_request_outside_of_every_epoch_is_cut() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(0), EPOCH, TERMS)
    (ended,) = state.leave(key("s"), BEGAN + 1)
    assert ended.cut is Cut.OTHER_EPOCH
    assert not state.leave(key("unknown"), BEGAN + 2)


def test_at_the_bound_the_session_that_would_end_first_makes_room_and_is_cut() -> None:
    state = OpenSessions(most=3)
    for number in range(3):
        assert not state.add(key(f"s{number}"), turn(number), EPOCH, TERMS)
    assert not state.add(key("s0"), turn(3), EPOCH, TERMS)
    (ended,) = state.add(key("s3"), turn(4), EPOCH, TERMS)
    assert (ended.key, ended.cut) == (key("s1"), Cut.BOUND)
    assert len(state.open) == 3


def test_a_session_of_too_many_turns_is_cut_and_so_is_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_TURNS", 5)
    state = OpenSessions()
    ended = [each for at in range(7) for each in state.add(key("s"), turn(at), EPOCH, TERMS)]
    ended += state.advance(math.inf)
    assert [(len(each.turns), each.cut) for each in ended] == [(5, Cut.TOO_LONG), (2, Cut.TOO_LONG)]


def test_what_is_committed_is_what_changed_and_each_thing_once() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(0), EPOCH, TERMS)
    first = state.changes()
    assert ([each.key for each in first.put], first.ended, first.time) == ([key("s")], [], BEGAN)
    assert not state.changes().put
    state.advance(math.inf)
    assert state.changes().ended == [key("s")]
    state.add(key("t"), turn(0), EPOCH, TERMS)
    state.advance(math.inf)
    assert not state.changes().put, "it began and ended in between"


# --- any interleaving, any crash ----------------------------------------------------------------------------------

_LETTERS = st.sampled_from(["oo", "ob", "bo", "bb", "ox", "xo"])
_SESSIONS = st.dictionaries(
    st.sampled_from("pqrs"),
    st.lists(st.tuples(st.floats(0, 90), _LETTERS), min_size=1, max_size=6),
    min_size=1,
)


def _log(scripts: dict[str, list[tuple[float, str]]], order: Sequence[int]) -> list[tuple[SessionKey, Turn]]:
    """All turns, in an order of their own: every session's lie less than an idle time apart."""
    turns = [
        (key(name), turn(at, letters, number))
        for name, script in scripts.items()
        for number, (at, letters) in enumerate(sorted(script), start=1)
    ]
    return [turns[place % len(turns)] for place in order if place < len(turns)]


@given(scripts=_SESSIONS, data=st.data())
def test_any_interleaving_and_any_crash_give_the_same_counts(
    scripts: dict[str, list[tuple[float, str]]], data: st.DataObject
) -> None:
    count = sum(map(len, scripts.values()))
    plain = _log(scripts, range(count))
    shuffled = _log(scripts, data.draw(st.permutations(range(count))))
    crashes = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    assert _counts(shuffled, crashes) == _counts(plain, [False] * count)


def _counts(log: Sequence[tuple[SessionKey, Turn]], crashes: Sequence[bool]) -> dict[str, int]:
    """Each turn is a commit. Where it crashes, what was read and not committed is lost, and read again."""
    stored: dict[SessionKey, OpenSession] = {}
    time: float | None = None
    total = Rollup()
    state = OpenSessions()
    for (session, one), crash in zip(log, crashes, strict=True):
        if crash:
            state.add(session, one, EPOCH, NUMBERED)
            state = OpenSessions(stored.values(), time=time)
        ended = state.add(session, one, EPOCH, NUMBERED)
        changes = state.changes()
        total += sum((session_counts.contribution(each, EPOCH, ALWAYS) for each in ended), Rollup())
        stored = {name: kept for name, kept in stored.items() if name not in changes.ended}
        stored |= {each.key: each for each in changes.put}
        time = changes.time if changes.time is not None else time
    state = OpenSessions(stored.values(), time=time)
    total += sum((session_counts.contribution(each, EPOCH, ALWAYS) for each in state.advance(math.inf)), Rollup())
    return named(total)


@given(
    script=st.lists(st.tuples(st.floats(0, 90), _LETTERS), min_size=1, max_size=8),
    data=st.data(),
)
def test_without_numbers_turns_count_in_the_order_in_which_they_were_received(
    script: list[tuple[float, str]], data: st.DataObject
) -> None:
    turns = [turn(at, letters) for at, letters in script]
    assert counted(data.draw(st.permutations(turns))) == counted(turns)


# --- what one adds ------------------------------------------------------------------------------------------------


def test_a_whole_session_counts_for_each_candidate_by_turn_and_by_pair() -> None:
    found = counted([turn(0, "oo"), turn(1, "bo"), turn(2, "bo"), turn(3, "ox")])
    assert found == {
        "session  ended": 1,
        "session  turns": 4,
        "session_length  4": 1,
        "session A b": 1,
        "session B o": 1,
        "session_pair A|B bo": 1,
        "first_divergence A 2": 1,
        "turn A 1/o": 1,
        "turn A 2/b": 1,
        "turn A 3/b": 1,
        "turn A 4/o": 1,
        "turn B 1/o": 1,
        "turn B 2/o": 1,
        "turn B 3/o": 1,
        "turn_cascade A before/o": 1,
        "turn_cascade A before/b": 1,
        "turn_cascade A after/b": 1,
        "turn_cascade A after/o": 1,
        "turn_cascade B before/o": 3,
    }


def test_turns_beyond_the_twentieth_count_together() -> None:
    found = counted([turn(at, "bo" if at == 24 else "oo") for at in range(25)])
    assert (found["turn A 21+/o"], found["turn A 21+/b"], found["first_divergence A 21+"]) == (4, 1, 1)
    assert found["session_length  21+"] == 1


def test_a_callers_numbers_are_the_order_whatever_clocks_say() -> None:
    found = counted([turn(5, "oo", 1), turn(3, "bo", 2), turn(4, "oo", 3)], terms=NUMBERED)
    assert found["first_divergence A 2"] == 1
    assert "session_cut A gap" not in found


def test_the_same_number_twice_is_one_turn() -> None:
    found = counted([turn(0, "oo", 1), turn(1, "oo", 2), turn(2, "bb", 2)], terms=NUMBERED)
    assert (found["session  turns"], found["session A o"]) == (2, 1)


@pytest.mark.parametrize(
    ("turns", "cut"),
    [
        ([turn(0, "oo", 2), turn(1, "oo", 3)], Cut.BEGAN_BEFORE),
        ([turn(0, "oo", 1), turn(1, "oo", 3)], Cut.GAP),
        ([turn(0, "oo", 1), turn(1, "uu", 2)], Cut.PARTLY_SAMPLED),
        ([turn(0, "oo", 1), turn(1, "dd", 2)], Cut.DROPPED),
    ],
)
def test_a_session_that_misses_a_turn_is_cut_and_part_of_no_rate(turns: list[Turn], cut: Cut) -> None:
    found = counted(turns, terms=NUMBERED)
    assert (found[f"session_cut A {cut}"], found["session_pair A|B xx"]) == (1, 1)
    assert not [name for name in found if name.startswith(("session A", "turn", "first"))]


def test_a_candidate_may_miss_a_turn_that_another_one_got() -> None:
    found = counted([turn(0, "oo"), turn(1, "do")])
    assert (found["session_cut A dropped"], found["session B o"], found["session_pair A|B xo"]) == (1, 1, 1)


def test_a_candidate_that_got_nothing_of_it_is_unsampled_and_not_cut() -> None:
    found = counted([turn(0, "ou"), turn(1, "bu")])
    assert found["session_pair A|B bu"] == 1
    assert not [name for name in found if name.startswith(("session B", "session_cut"))]


def test_turns_that_say_nothing_leave_the_session_to_the_others() -> None:
    assert counted([turn(0, "xo"), turn(1, "oo")])["session A o"] == 1
    assert counted([turn(0, "xo")])["session A x"] == 1


def test_a_session_whose_epoch_nobody_knows_any_more_is_cut() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(0), EPOCH, TERMS)
    (ended,) = state.advance(math.inf)
    assert named(session_counts.contribution(ended, None, None))["session_cut A epoch_gone"] == 1


def test_a_session_is_cut_when_its_epoch_began_or_ended_within_an_idle_time_of_it() -> None:
    state = OpenSessions()
    state.add(key("s"), turn(0), EPOCH, TERMS)
    (ended,) = state.advance(math.inf)

    def cut(**bounds: float) -> str | None:
        epoch = replace(EPOCH, **bounds)  # type: ignore[arg-type]  # fields by name
        cells = session_counts.contribution(ended, epoch, ALWAYS).cells
        return next((cell.level for cell in cells if cell.family == "session_cut" and cell.subject == "A"), None)

    assert cut(opened_at=BEGAN - 99) == Cut.BEGAN_BEFORE
    assert cut(opened_at=BEGAN - 100) is None
    assert cut(ends_at=BEGAN + 100) == Cut.WENT_ON
    assert cut(ends_at=BEGAN + 101) is None
    assert cut(closed_at=BEGAN + 99) == Cut.WENT_ON
    assert cut(closed_at=BEGAN + 101) is None


def test_flags_that_changed_around_a_session_cut_it_unless_numbers_settle_its_beginning() -> None:
    def at(moment: float) -> FlagHistory:
        base = FlagChange(key="spam.base", at=0, revision=1, definition=claim_definition("spam", Claim.LIVE))
        shadow = claim_definition("spam", Claim.SHADOW)
        return FlagHistory(MODEL, [base, FlagChange(key="spam.A", at=BEGAN + moment, revision=2, definition=shadow)])

    def cut(history: FlagHistory, *turns: Turn) -> str | None:
        state = OpenSessions()
        for each in turns:
            state.add(key("s"), each, EPOCH, NUMBERED)
        (ended,) = state.advance(math.inf)
        cells = session_counts.contribution(ended, EPOCH, history).cells
        assert Cell("session_cut", "B", "went_on") not in cells, "B's flag did not change"
        return next((cell.level for cell in cells if cell.family == "session_cut"), None)

    plain, numbered = (turn(0), turn(10)), (turn(0, number=1), turn(10, number=2))
    assert cut(at(-50), *plain) == Cut.BEGAN_BEFORE
    assert cut(at(-50), *numbered) is None
    assert cut(at(-150), *plain) is None
    assert cut(at(5), *plain) == Cut.GAP
    assert cut(at(5), *numbered) is None
    assert cut(at(60), *plain) == cut(at(60), *numbered) == Cut.WENT_ON
    assert cut(at(200), *plain) is None


def test_a_turns_letters_follow_what_shadows_did() -> None:
    seen = [
        Observation(version=name, outcome=outcome)
        for name, outcome in zip("ABCDEF", [*(each for each in Outcome if each is not Outcome.DUPLICATE)], strict=False)
    ]
    assert sessions.letters(seen, tuple("ABCDEFG")) == "obbbxdu"
    assert sessions.letters([], ("A", "B"), sampled=("B",)) == "ux"


# --- reports ------------------------------------------------------------------------------------------------------


def test_a_report_adds_sessions_up() -> None:
    rollups = [
        session_counts.contribution(ended, EPOCH, ALWAYS)
        for ended in _ended([["oo", "bo", "bo"], ["oo", "oo"], ["ob"], ["do"]])
    ]
    found = session_report.build(sum(rollups, Rollup()), ("A", "B"))
    a, b = found.candidates
    assert (found.ended, found.turns, found.lengths) == (4, 7, ((1, 2), (2, 1), (3, 1)))
    assert (a.whole, a.diverged, a.cut, b.whole, b.diverged) == (3, 1, {"dropped": 1}, 4, 1)
    assert [(each.turn, each.n, each.bad, each.first) for each in a.by_turn] == [
        (1, 3, 0, 0),
        (2, 2, 1, 1),
        (3, 1, 1, 0),
    ]
    assert (a.before, a.before_bad, a.after, a.after_bad) == (5, 1, 1, 1)


def test_sessions_stand_in_the_place_of_requests_where_they_are_ranked() -> None:
    rollups = (session_counts.contribution(each, EPOCH, ALWAYS) for each in _ended([["bo", "bo"], ["oo"], ["xo"]]))
    assert named(session_report.as_requests(sum(rollups, Rollup()))) == {
        "outcome A diverged": 1,
        "outcome A ok": 1,
        "outcome B ok": 3,
        "pair A|B bo": 1,
        "pair A|B oo": 1,
        "pair A|B xo": 1,
    }


def _ended(scripts: Sequence[Sequence[str]]) -> list[OpenSession]:
    state = OpenSessions()
    for number, script in enumerate(scripts):
        for at, letters in zip(itertools.count(), script, strict=False):
            state.add(key(f"s{number}"), turn(at, letters), EPOCH, TERMS)
    return state.advance(math.inf)
