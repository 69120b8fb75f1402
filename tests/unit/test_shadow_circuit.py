"""A version that fails is left in peace, tried with few calls, and called again when it works."""

from __future__ import annotations

from itertools import pairwise

from multishadow_server.core.shadow_circuit import FIRST_PAUSE, LONGEST_PAUSE, WINDOW, ShadowCircuit, Way
from multishadow_server.core.version_limits import CircuitTerms

TERMS = CircuitTerms(failures=3, share=0.5)


def call(circuit: ShadowCircuit, *, worked: bool, now: float = 0.0) -> Way | None:
    """One call, if it may be made."""
    way = circuit.way(now)
    if way is not None:
        circuit.ended(way, worked=worked, now=now)
    return way


def is_open(circuit: ShadowCircuit) -> bool:
    """Asked anew each time: a checker would take the first answer for the last."""
    return circuit.is_open


def opened(now: float = 0.0) -> ShadowCircuit:
    circuit = ShadowCircuit(TERMS)
    for _ in range(3):
        call(circuit, worked=False, now=now)
    return circuit


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    circuit = ShadowCircuit(TERMS)
    for worked in (False, False, True, False, False):
        call(circuit, worked=worked)
    assert not is_open(circuit)
    call(circuit, worked=False)
    assert is_open(circuit)
    assert circuit.opened == 1
    assert circuit.way(0.0) is None


def test_a_share_of_the_last_calls_opens_it_too_however_they_are_mixed() -> None:
    circuit = ShadowCircuit(CircuitTerms(failures=1_000, share=0.5))
    for number in range(WINDOW - 1):
        call(circuit, worked=number % 2 == 0)
    assert not is_open(circuit)
    call(circuit, worked=False)
    assert is_open(circuit)
    healthy = ShadowCircuit(CircuitTerms(failures=1_000, share=0.5))
    for number in range(10 * WINDOW):
        call(healthy, worked=number % 3 != 0)
    assert not healthy.is_open


def test_one_call_at_a_time_tries_it_after_pauses_that_grow() -> None:
    circuit = opened()
    assert circuit.way(FIRST_PAUSE - 0.01) is None
    tried_at = []
    for tick in range(6_000):
        now = tick / 10
        if call(circuit, worked=False, now=now) is Way.PROBE:
            tried_at.append(now)
    pauses = [later - earlier for earlier, later in pairwise(tried_at)]
    assert [round(pause) for pause in pauses[:6]] == [2, 4, 8, 16, 32, 60]
    assert max(pauses) <= LONGEST_PAUSE + 0.11


def test_while_one_call_is_out_to_try_it_no_other_is_made() -> None:
    circuit = opened()
    assert circuit.way(1.0) is Way.PROBE
    assert circuit.way(100.0) is None
    circuit.give_back(Way.PROBE)
    assert circuit.way(100.0) is Way.PROBE


def test_a_call_that_works_closes_it_and_everything_begins_anew() -> None:
    circuit = opened()
    assert call(circuit, worked=False, now=1.0) is Way.PROBE
    assert call(circuit, worked=True, now=3.0) is Way.PROBE
    assert not is_open(circuit)
    assert call(circuit, worked=False, now=3.0) is Way.USUAL
    assert not is_open(circuit)
    for _ in range(2):
        call(circuit, worked=False, now=3.0)
    assert is_open(circuit)
    assert circuit.way(3.0 + FIRST_PAUSE) is Way.PROBE
    assert circuit.opened == 2


def test_calls_that_were_under_way_when_it_opened_neither_close_it_nor_lengthen_the_pause() -> None:
    circuit = ShadowCircuit(TERMS)
    early = [circuit.way(0.0) for _ in range(5)]
    for way in early[:3]:
        assert way is not None
        circuit.ended(way, worked=False, now=0.0)
    circuit.ended(Way.USUAL, worked=True, now=0.5)
    circuit.ended(Way.USUAL, worked=False, now=0.6)
    assert is_open(circuit)
    assert circuit.way(FIRST_PAUSE) is Way.PROBE
