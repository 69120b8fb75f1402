"""How a version stands with a probe after it was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from multishadow_server.core import probe, probe_state
from multishadow_server.core.comparison import Comparison, Verdict, uncomparable
from multishadow_server.core.model import Comparator, Version
from multishadow_server.core.probe import Probe
from multishadow_server.core.probe_state import Asked, ProbeOutcome, ProbeState
from multishadow_server.errors import InvalidInput

VERSION = Version(model="spam", name="A", address="10.0.0.7:9000")
STABLE = Probe(name="hello", request=b"request")
KNOWN = replace(STABLE, expected=b"known")
AGREES = Comparison(verdict=Verdict.AGREE, similarity=1.0)
DIFFERS = Comparison(verdict=Verdict.DIVERGE, similarity=0.2, detail="live ham, shadow spam")


def answered(at: float, response: bytes = b"one", **more: Any) -> Asked:
    return Asked(at=at, latency=0.01, response=response, **more)


def failed(at: float) -> Asked:
    return Asked(at=at, latency=0.5, failure="UNAVAILABLE", detail="connection refused")


def history(*askings: Asked, of: Probe = STABLE, version: Version = VERSION) -> ProbeState:
    state: ProbeState | None = None
    for asked in askings:
        state = probe_state.noted(state, of, version, asked)
    assert state is not None
    return state


def test_the_first_answer_is_what_a_stable_probe_expects_from_then_on() -> None:
    state = history(answered(1))
    assert (state.outcome, state.answer, state.first_at, state.changes) == (ProbeOutcome.OK, b"one", 1, 0)
    assert probe_state.former_answer(state, STABLE, VERSION) == b"one"
    assert history(answered(1), answered(2, former=AGREES)).first_at == 1


def test_another_answer_at_the_same_address_is_a_change_and_what_the_next_one_is_held_against() -> None:
    state = history(answered(1), answered(2, b"two", former=DIFFERS), answered(3, b"two", former=AGREES))
    assert (state.changed_at, state.changes, state.answer, state.first_at) == (2, 1, b"two", 2)
    assert state.outcome is ProbeOutcome.OK


def test_two_builds_behind_one_address_are_seen_as_ever_new_changes() -> None:
    askings = [answered(at, b"two" if at % 2 else b"one", former=DIFFERS if at > 1 else AGREES) for at in range(1, 6)]
    assert history(*askings).changes == 4


def test_an_answer_of_another_kind_is_a_change_but_one_that_cannot_be_compared_for_our_own_sake_is_not() -> None:
    assert history(answered(1), answered(2, b"two", former=uncomparable("type_mismatch"))).changes == 1
    ours = history(answered(1), answered(2, b"two", former=uncomparable("comparison_timeout")))
    assert (ours.changes, ours.answer, ours.outcome, ours.reason) == (
        0,
        b"one",
        ProbeOutcome.FAILING,
        "comparison_timeout",
    )


def test_the_same_bytes_never_are_a_change_even_where_nothing_can_be_compared() -> None:
    assert history(answered(1), answered(2, former=uncomparable("zero_vector"))).changes == 0


def test_another_address_or_another_question_begins_anew() -> None:
    before = history(answered(1), answered(2, b"two", former=DIFFERS))
    moved = replace(VERSION, address="10.0.0.8:9000")
    assert probe_state.former_answer(before, STABLE, moved) == b""
    state = probe_state.noted(before, STABLE, moved, answered(3, b"three"))
    assert (state.changes, state.changed_at, state.first_at, state.since) == (0, None, 3, 3)
    assert [change.after for change in probe_state.changes(before, state)] == ["10.0.0.8:9000"]
    assert probe_state.former_answer(before, replace(STABLE, request=b"another"), VERSION) == b""


def test_a_failure_keeps_the_former_answer_and_counts_until_an_answer_comes() -> None:
    state = history(answered(1), failed(2), failed(3))
    assert (state.outcome, state.failures, state.since, state.answer, state.latency) == (
        ProbeOutcome.FAILING,
        2,
        2,
        b"one",
        None,
    )
    assert history(answered(1), failed(2), answered(3, former=AGREES)).failures == 0


def test_a_known_answer_that_does_not_come_is_wrong_however_stable_it_is() -> None:
    state = history(answered(1, known=DIFFERS), answered(2, known=DIFFERS, former=AGREES), of=KNOWN)
    assert (state.outcome, state.detail, state.similarity, state.since) == (
        ProbeOutcome.WRONG,
        "live ham, shadow spam",
        0.2,
        1,
    )
    assert history(answered(1, known=AGREES), of=KNOWN).outcome is ProbeOutcome.OK


def test_the_history_has_a_line_for_each_turn_and_none_for_the_same_again() -> None:
    first = history(answered(1))
    assert [(line.before, line.after) for line in probe_state.changes(None, first)] == [("never asked", "ok")]
    again = probe_state.noted(first, STABLE, VERSION, answered(2, former=AGREES))
    assert probe_state.changes(first, again) == ()
    changed = probe_state.noted(again, STABLE, VERSION, answered(3, b"two", former=DIFFERS))
    assert [line.after for line in probe_state.changes(again, changed)] == ["other answer"]
    failing = probe_state.noted(changed, STABLE, VERSION, failed(4))
    assert [(line.after, line.detail) for line in probe_state.changes(changed, failing)] == [
        ("failing", "connection refused")
    ]


def test_a_threshold_of_its_own_takes_the_place_of_the_models() -> None:
    assert probe_state.comparator(replace(STABLE, threshold=0.5), Comparator(threshold=0.9)).threshold == 0.5
    assert probe_state.comparator(STABLE, Comparator(threshold=0.9)).threshold == 0.9


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ((replace(STABLE, name="a b"),), "probes[0].name: 'a b' is no name"),
        ((STABLE, STABLE), "probes[1].name: 'hello' is named twice"),
        ((replace(STABLE, every=0.5),), "probes[0] (hello).every: 0.5 s is out of range"),
        ((replace(STABLE, every=float("nan")),), "every: nan s is out of range"),
        ((replace(STABLE, threshold=0.0),), "threshold: 0 is out of range"),
        ((replace(STABLE, request=b"x" * 65_537),), "request: 65,537 bytes are too many"),
        ((replace(STABLE, expected=b"x" * 131_073),), "probes: 131,080 bytes of requests and answers are too many"),
        (tuple(replace(STABLE, name=f"p{n}") for n in range(21)), "21 are too many; allowed are 20"),
    ],
)
def test_probes_that_cannot_be_registered_are_refused_by_name(probes: tuple[Probe, ...], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        probe.check(probes)
    assert said in str(refused.value)
