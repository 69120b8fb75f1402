"""Forecasts of gates: by when they are likely to pass, if things go on as they did lately."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from multishadow_server.core import gate_outlook, report
from multishadow_server.core.findings import CandidateReport, Report
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gate_outlook import Expectation, Pace, Prospect
from multishadow_server.core.gates import Awaits, Gate, GateName, GateState, Record
from multishadow_server.core.statistics import sequences
from sightings import rollup_of

NOW = 1_000_000.0
HOUR = 3_600
PACE = Pace(now=NOW, ends_at=NOW + 100 * HOUR, per_second=0.5, collected_until=NOW + 30 * HOUR, stored=20)
GATE = Gate(name=GateName.DIVERGENCE, state=GateState.UNKNOWN, number="", bound="")


def young() -> Report:
    """Two candidates after 300 requests; A diverges on 2 of them, B on 4."""
    return report.build(
        rollup_of(("A", "B"), {"oo": 294, "bo": 2, "ob": 4}), model="spam", live="prod", candidates=("A", "B")
    )


def of_a(found: Report) -> CandidateReport:
    return next(each for each in found.candidates if each.version == "A")


def expected(gate: Gate, pace: Pace = PACE, found: Report | None = None) -> Expectation | None:
    found = found or young()
    return gate_outlook.expectation(gate, candidate=of_a(found), report=found, limits=GateLimits(), pace=pace)


def test_further_comparisons_are_what_the_sequence_takes_at_the_same_share() -> None:
    threshold = math.log(2 / 0.05)
    more = gate_outlook.further_below(bad=2, n=300, limit=0.01, log_threshold=threshold)
    assert more is not None
    factor = (300 + more) / 300

    def upper(times: float) -> float:
        return float(
            sequences.rate(bad=np.array([2 * times]), n=np.array([300 * times]), log_threshold=threshold)[1][0]
        )

    assert upper(factor) < 0.01 <= upper(factor / 2**0.25)


def test_a_rate_that_is_not_below_its_limit_is_never_proven_below_it() -> None:
    assert gate_outlook.further_below(bad=3, n=300, limit=0.01, log_threshold=3.0) == math.inf
    assert gate_outlook.further_below(bad=0, n=50, limit=0.01, log_threshold=3.0) is None
    assert gate_outlook.further_below(bad=0, n=2_000, limit=0.01, log_threshold=3.0) == 0
    # 618 without any prove less than 1 % at k = 3.
    without = gate_outlook.further_below(bad=0, n=500, limit=0.01, log_threshold=math.log(3 / 0.05))
    assert without is not None
    assert 118 <= without <= 500 * (2**0.5 - 1)


def test_what_more_requests_prove_comes_at_the_present_pace() -> None:
    more = gate_outlook.further_below(bad=2, n=300, limit=0.01, log_threshold=math.log(2 / 0.05))
    assert more is not None
    found = expected(GATE)
    assert found == Expectation(prospect=Prospect.LIKELY, at=NOW + more / 0.5)


def test_what_comes_after_the_time_box_is_said_to_be_too_late() -> None:
    late = expected(GATE, replace(PACE, ends_at=NOW + HOUR / 60))
    assert late is not None
    assert late.prospect is Prospect.TOO_LATE


def test_time_alone_brings_the_minimum_duration() -> None:
    gate = replace(GATE, name=GateName.MINIMUM_DURATION, awaits=Awaits.TIME)
    assert expected(gate) == Expectation(prospect=Prospect.LIKELY, at=NOW + 30 * HOUR)
    assert expected(gate, replace(PACE, collected_until=None)) == Expectation(prospect=Prospect.UNKNOWN)


def test_stored_samples_come_as_often_as_the_candidate_diverges() -> None:
    gate = replace(GATE, name=GateName.DIVERGENT_SAMPLES)
    # 30 are missing; A diverges on 1 of 150 comparisons, of which one comes every two seconds.
    found = expected(gate)
    assert found is not None
    assert found.prospect is Prospect.LIKELY
    assert found.at == pytest.approx(NOW + 30 * 150 / 0.5)


def test_the_best_set_waits_for_the_slowest_pair() -> None:
    found = young()
    gate = replace(GATE, name=GateName.BEST_SET)
    (pair,) = found.pairs
    assert pair.requests_needed is not None
    soon = expected(gate, found=found)
    assert soon is not None
    assert soon.at == NOW + pair.requests_needed / 0.5


@pytest.mark.parametrize(
    ("gate", "prospect"),
    [
        (replace(GATE, awaits=Awaits.PEOPLE), Prospect.PEOPLE),
        (replace(GATE, state=GateState.FAIL), Prospect.NOT_SO),
        (replace(GATE, name=GateName.LATENCY), Prospect.UNKNOWN),
    ],
)
def test_what_is_no_matter_of_requests_has_no_time(gate: Gate, prospect: Prospect) -> None:
    assert expected(gate) == Expectation(prospect=prospect)


def test_nothing_is_expected_of_what_has_ended_but_what_people_do() -> None:
    ended = replace(PACE, ends_at=None)
    assert expected(GATE, ended) == Expectation(prospect=Prospect.NOT_SO)
    assert expected(replace(GATE, awaits=Awaits.PEOPLE), ended) == Expectation(prospect=Prospect.PEOPLE)


def test_without_traffic_nobody_can_say() -> None:
    assert expected(GATE, replace(PACE, per_second=0.0)) == Expectation(prospect=Prospect.UNKNOWN)


def test_nothing_is_said_of_gates_that_stand_in_nobodys_way() -> None:
    waiver = Record(version="A", subject="divergence", waiver=True, text="meant", by="ada", at=0)
    for gate in (replace(GATE, state=GateState.PASS), replace(GATE, advisory=True), replace(GATE, waiver=waiver)):
        assert expected(gate) is None


def test_the_pace_is_that_of_the_last_day_or_since_the_first_of_younger_ones() -> None:
    counts = rollup_of(("A", "B"), {"oo": 60, "bo": 12, "xo": 50}).tables()
    hours = {int(NOW) - HOUR * place: counts for place in range(48, 0, -1)}
    steady = gate_outlook.comparisons_per_second(hours, "A", bucket_seconds=HOUR, now=NOW)
    assert steady == pytest.approx(72 / HOUR)
    first = {int(NOW) - HOUR: counts}
    assert gate_outlook.comparisons_per_second(first, "A", bucket_seconds=HOUR, now=NOW - HOUR / 2) == pytest.approx(
        72 / (HOUR / 2)
    )
    assert gate_outlook.comparisons_per_second({}, "A", bucket_seconds=HOUR, now=NOW) == 0
