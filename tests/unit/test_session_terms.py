"""How a model's requests form sessions, and what may be said of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from multishadow_server.core import registration, session_terms
from multishadow_server.core.model import Model, Version
from multishadow_server.core.model_spec import ModelSpec
from multishadow_server.core.prediction import Json
from multishadow_server.core.session_terms import SessionTerms, Unit
from multishadow_server.errors import InvalidInput


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3.0, 3),
        ("3", 3),
        (1, 1),
        (0, None),
        (-1, None),
        (2.5, None),
        (True, None),
        ("three", None),
        ("²", None),
        ("9" * 400, None),
        (math.nan, None),
        (math.inf, None),
        (2.0**53, None),
        (None, None),
        ([1], None),
    ],
)
def test_a_turns_number_is_a_whole_one_from_the_first_on(value: Json, number: int | None) -> None:
    assert SessionTerms(turn="chat.turn").turn_of({"chat": {"turn": value}}) == number


def test_a_session_may_begin_with_turn_zero() -> None:
    assert SessionTerms(turn="turn", first=0).turn_of({"turn": 0}) == 0


def test_without_a_path_or_without_the_attribute_there_is_no_number() -> None:
    assert SessionTerms().turn_of({"turn": 1}) is None
    assert SessionTerms(turn="chat.turn").turn_of({"chat": 1}) is None
    assert SessionTerms(turn="chat.turn").turn_of({}) is None


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (SessionTerms(idle=0.5), "sessions.idle"),
        (SessionTerms(idle=13 * 3600), "12 h"),
        (SessionTerms(idle=math.nan), "sessions.idle"),
        (SessionTerms(wait=61), "sessions.wait_ms: 61000"),
        (SessionTerms(first=2), "sessions.first: 2"),
        (SessionTerms(turn="a..b"), "sessions.turn: 'a..b'"),
        (SessionTerms(turn="x" * 300), "sessions.turn"),
    ],
)
def test_terms_out_of_range_are_refused_by_name(terms: SessionTerms, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        session_terms.check(terms)


def test_a_unit_is_one_of_two() -> None:
    assert session_terms.unit_of("session") is Unit.SESSION
    with pytest.raises(InvalidInput, match="allowed are request and session, not 'turn'"):
        session_terms.unit_of("turn")


PRESENT = Model(
    name="chat",
    sessions=SessionTerms(),
    versions=tuple(Version(model="chat", name=name, address="127.0.0.1:1") for name in ("base", "A")),
)


@pytest.mark.parametrize(
    ("terms", "anew"),
    [
        (SessionTerms(idle=60.0), True),
        (SessionTerms(turn="turn"), True),
        (SessionTerms(turn="turn", first=0), True),
        (SessionTerms(idle=0.0), True),
        (SessionTerms(wait=5.0), False),
        (SessionTerms(unit=Unit.REQUEST), False),
    ],
)
def test_statistics_begin_anew_when_a_session_is_something_else_than_before(terms: SessionTerms, anew: bool) -> None:
    found = registration.register(PRESENT, ModelSpec(name="chat", sessions=terms), now=1.0)
    assert found.settings_changed
    assert found.changes[0].startswith("sessions: end after 30 min, turns in order of arrival, waiting 1000 ms")
    assert found.replaced == (frozenset({"base", "A"}) if anew else frozenset())


def test_the_number_of_the_first_turn_matters_where_turns_have_numbers() -> None:
    from_one, from_zero = SessionTerms(turn="turn"), SessionTerms(turn="turn", first=0)
    assert not session_terms.same_sessions(from_one, from_zero)
    assert session_terms.same_sessions(SessionTerms(), SessionTerms(first=0))
    assert not session_terms.same_sessions(None, SessionTerms())
    assert session_terms.same_sessions(None, None)


def test_sessions_can_be_ended_and_are_left_alone_when_nothing_is_said() -> None:
    ended = registration.register(PRESENT, ModelSpec(name="chat", sessions=SessionTerms(idle=0.0)), now=1.0)
    assert ended.model.sessions is None
    assert registration.register(PRESENT, ModelSpec(name="chat"), now=1.0).model.sessions == SessionTerms()
    begun = registration.register(
        replace(PRESENT, sessions=None), ModelSpec(name="chat", sessions=SessionTerms()), now=1
    )
    assert begun.replaced == {"base", "A"}
