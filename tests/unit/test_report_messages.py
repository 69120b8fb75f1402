"""The report's values and the API's messages say the same, field by field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core import gates, panel, session_report
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.findings import (
    CandidateReport,
    Interval,
    NoiseFloor,
    PairReport,
    Quality,
    Report,
    ReviewCounts,
    State,
)
from multishadow_server.core.gates import Gate, GateName, GateState, Record, Review
from multishadow_server.core.model import Comparator
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.ranking import Verdict
from multishadow_server.entrypoints import report_messages
from multishadow_server.service.comparison_report import ExperimentReport

CANDIDATE = CandidateReport(
    version="A",
    n=101,
    agreed=90,
    diverged=5,
    errors=4,
    timeouts=2,
    uncomparable=7,
    dropped=8,
    completeness=0.875,
    divergence=Interval(estimate=0.1, lower=0.05, upper=0.15),
    band=Band.DO_NOT_ROLL_OUT,
    band_confirmed=True,
    band_proven=Band.INVESTIGATE,
    similarity=0.97,
    latency_p50_ms=1.5,
    latency_p99_ms=math.inf,
    live_latency_p50_ms=1.25,
    live_latency_p99_ms=2.5,
    ranked=True,
    rank_best=1,
    rank_worst=2,
    in_best_set=True,
    dropped_by_reason={"in_flight_limit": 8},
    uncomparable_by_reason={"type_mismatch": 7},
    errors_by_reason={"INTERNAL": 4},
    comparisons_needed=1234,
    duplicates=11,
    over_noise=Interval(estimate=0.0625, lower=-0.125, upper=0.25),
    rate_moved=True,
    first_latency_p50_ms=210.0,
    first_latency_p99_ms=math.inf,
    live_first_latency_p50_ms=110.0,
    live_first_latency_p99_ms=190.0,
)
PAIR = PairReport(
    first="A",
    second="B",
    n=99,
    only_first_bad=3,
    only_second_bad=9,
    difference=Interval(estimate=-0.06, lower=-0.2, upper=0.1),
    log_evidence_first_worse=-1.5,
    log_evidence_second_worse=2.5,
    p_raw=0.3,
    p_adjusted=0.6,
    verdict=Verdict.UNDECIDED,
    requests_needed=500,
    dispersion=1.25,
    overdispersed=True,
)
REPORT = Report(
    live_version="base",
    candidates=(CANDIDATE,),
    pairs=(PAIR,),
    alpha=0.05,
    family_size=1,
    evidence_threshold=40,
    test_name="a test",
    advice="wait",
    state=State.UNDECIDED,
    winner="A",
    live_failures=6,
    noise_floor=NoiseFloor(n=40, diverged=1, failed=2, divergence=Interval(estimate=0.075, lower=0.01, upper=0.2)),
    quality=Quality(
        labelled=20,
        too_young=2,
        delay_seconds=60,
        live_n=18,
        live_right=9,
        live_accuracy=None,
        candidates=(),
        margin=0.01,
        evidence_threshold=20,
    ),
    review_verdicts=(ReviewCounts(version="A", candidate_better=1, live_better=2, both_fine=3, both_wrong=4),),
)
GATE = Gate(
    name=GateName.COST,
    state=GateState.PASS,
    number="2 GPUs",
    bound="recorded",
    remedy="none",
    advisory=True,
    waiver=Record(version="A", subject="cost", waiver=True, text="because", by="ada", at=1100),
    attestation=Record(version="A", subject="cost", waiver=False, text="2 GPUs", by="grace", at=1200),
)
EXPERIMENT = Experiment(
    id=3,
    model="spam",
    candidates=("A", "B"),
    percent=25,
    bucket_seconds=60,
    started_at=1000.5,
    ends_at=2000,
    started_by="ada",
)
EPOCH = Epoch(
    id=9,
    experiment_id=3,
    model="spam",
    number=4,
    live="base",
    candidates=("A", "B"),
    comparator=Comparator(),
    from_revision=5,
    until_revision=None,
    opened_at=1200.25,
    reason="A promoted",
    bucket_seconds=60,
)


FOUND = ExperimentReport(
    experiment=EXPERIMENT,
    epoch=EPOCH,
    earlier_epochs=3,
    report=REPORT,
    reviews=(Review(version="A", verdict=gates.Verdict.HOLD, gates=(GATE,)),),
    panel=panel.build(Rollup(), ("A", "B")),
    read_at=1500,
    sampling_share=0.25,
    sessions=session_report.build(Rollup({Cell(Family.SESSION, "", "ended"): 3}), ("A", "B")),
)


def response() -> pb.CompareResponse:
    return report_messages.compare_response(FOUND)


@pytest.mark.parametrize(
    ("value", "message"),
    [(CANDIDATE, response().candidates[0]), (PAIR, response().pairs[0])],
    ids=["candidate", "pair"],
)
def test_every_finding_reaches_the_message_under_its_own_name(
    value: CandidateReport | PairReport, message: pb.CandidateReport | pb.PairReport
) -> None:
    names = {field.name for field in dataclasses.fields(value)}
    assert names == set(message.DESCRIPTOR.fields_by_name)
    for name in names:
        assert said(getattr(message, name)) == said(getattr(value, name)), name


def test_the_response_says_which_epoch_it_read_and_that_others_exist() -> None:
    message = response()
    # Alarms are the servicer's to add: they are of now, not of the epoch.
    assert {field.name for field, _ in message.ListFields()} == set(message.DESCRIPTOR.fields_by_name) - {"alarms"}
    assert (message.epoch, message.epoch_reason) == (4, "A promoted (3 earlier epochs are kept apart)")
    assert message.epoch_opened_at.ToMilliseconds() == 1_200_250
    assert message.experiment.started_at.ToMilliseconds() == 1_000_500


def test_what_is_not_known_yet_is_absent() -> None:
    unknown = dataclasses.replace(
        CANDIDATE, divergence=None, similarity=None, latency_p50_ms=None, comparisons_needed=None
    )
    report = dataclasses.replace(REPORT, candidates=(unknown,))
    found = dataclasses.replace(FOUND, report=report)
    (candidate,) = report_messages.compare_response(found).candidates
    for name in ("divergence", "similarity", "latency_p50_ms", "comparisons_needed"):
        assert not candidate.HasField(name)


def said(value: Any) -> Any:
    """A value as both sides can be compared by."""
    if isinstance(value, Interval | pb.Interval):
        return (value.estimate, value.lower, value.upper)
    return dict(value) if hasattr(value, "items") else value


def test_a_gate_reaches_the_message_whole() -> None:
    (review,) = response().reviews
    (gate,) = review.gates
    assert (review.version, review.verdict) == ("A", "HOLD")
    assert (gate.name, gate.state, gate.number, gate.bound) == ("cost", "pass", "2 GPUs", "recorded")
    assert (gate.remedy, gate.advisory, gate.holds_up) == ("none", True, False)
    assert (gate.waiver.text, gate.waiver.by, gate.waiver.at.seconds) == ("because", "ada", 1100)
    assert (gate.attestation.text, gate.attestation.by, gate.attestation.at.seconds) == ("2 GPUs", "grace", 1200)
