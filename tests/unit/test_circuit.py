"""A source that does not answer is asked ever more seldom, and at once again when it does."""

from __future__ import annotations

from itertools import pairwise

from multishadow_server.core.circuit import FAILURES_TO_OPEN, FIRST_RETRY, LONGEST_RETRY, Circuit


def opened(now: float = 100.0) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        assert not circuit.is_open
        circuit.failed(now)
    assert circuit.is_open
    return circuit


def test_failures_in_a_row_open_it_and_one_success_closes_it() -> None:
    circuit = opened()
    circuit.worked()
    assert not circuit.is_open
    for _ in range(FAILURES_TO_OPEN - 1):
        circuit.failed(200.0)
    circuit.worked()
    circuit.failed(201.0)
    assert not circuit.is_open


def test_attempts_become_rarer_and_never_stop() -> None:
    circuit, now, taken = opened(), 100.0, list[float]()
    while now < 140.0:
        if circuit.takes_attempt(now):
            taken.append(now)
            circuit.failed(now)
        now += 0.125
    gaps = [later - earlier for earlier, later in pairwise(taken)]
    assert taken[0] == 100.0 + FIRST_RETRY
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (FIRST_RETRY, LONGEST_RETRY)
