"""Gates: what each finds, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from multishadow_server.core import gate_findings, gates, report, segment_report
from multishadow_server.core.findings import Interval
from multishadow_server.core.gate_findings import Findings
from multishadow_server.core.gate_limits import DAY, GateLimits
from multishadow_server.core.gates import Attestation, Gate, GateName, GateState, Record, Review, Verdict
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.segment_report import Segment
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from sightings import rollup_of

LIMITS = GateLimits()
# A diverges on 0.2 %, B on 4 %, and both are settled.
SETTLED = {"oo": 47_800, "bb": 60, "bo": 40, "ob": 2_100}
NO_LABELS = LabelledPair(only_candidate_right=0, only_live_right=0, alike=0)
PEOPLE = tuple(
    Record(version="A", subject=what, waiver=False, text="looked at", by="ada", at=0.0)
    for what in (Attestation.AGREEMENT_ONLY, Attestation.TOP_REVIEWED, Attestation.COST, Attestation.ROLLBACK_PLAN)
)


def reviewed(
    patterns: Mapping[str, int] = SETTLED,
    version: str = "A",
    *,
    records: tuple[Record, ...] = PEOPLE,
    rollup: Rollup | None = None,
    limits: GateLimits = LIMITS,
    buckets: tuple[Rollup, ...] = (),
    **more: Any,
) -> Review:
    candidates = tuple("ABC"[: len(next(iter(patterns)))])
    counts = rollup_of(candidates, patterns) if rollup is None else rollup
    whole = report.build(counts, model="spam", live="base", candidates=candidates, buckets=buckets)
    (candidate,) = (each for each in whole.candidates if each.version == version)
    facts: dict[str, Any] = {
        "hours": {0: counts.tables()},
        "bucket_seconds": 3_600,
        "by_labels": False,
        "collected_for": 8 * DAY,
        "shadowed_for": 8 * DAY,
        "shares": dict.fromkeys(candidates, 0.25),
        "labels": NO_LABELS,
        "segments": segment_report.build({}, version=version, alpha=0.05),
        "divergent_samples": 60,
        "reviewed": 0,
        "serving": False,
    } | more
    found = Findings(
        report=whole,
        candidate=candidate,
        tables=counts.tables(),
        candidates=candidates,
        attested=gates.attestations(version, records),
        **facts,
    )
    return gates.review(version, gate_findings.find(found, limits), n=candidate.n, records=records)


def gate(review: Review, name: GateName) -> Gate:
    (only,) = (each for each in review.gates if each.name is name)
    return only


def test_a_settled_candidate_that_people_vouched_for_may_be_promoted() -> None:
    review = reviewed()
    assert [each.name for each in review.holding] == []
    assert review.verdict is Verdict.PROMOTE
    names = [each.name for each in review.gates]
    assert names == [name for name in GateName if name in names]


def test_every_gate_that_does_not_pass_says_what_would_change_it() -> None:
    for patterns in (SETTLED, {"oo": 3, "bo": 1}, {"oo": 500, "bb": 400, "ob": 300}, {"dd": 5}):
        for version in ("A", "B"):
            for each in reviewed(patterns, version, records=(), collected_for=60.0).gates:
                assert (each.remedy == "") == (each.state is GateState.PASS), each
                assert each.number
                assert each.bound


def test_an_alarm_that_cannot_have_rung_yet_has_not_passed_and_holds_nothing_up() -> None:
    review = reviewed()
    for name, number in (
        (GateName.DRIFT, "no second hour yet"),
        (GateName.SEGMENTS, "no kinds of request seen yet"),
    ):
        silent = gate(review, name)
        assert (silent.state, silent.number, silent.holds_up) == (GateState.UNKNOWN, number, False)
    assert review.verdict is Verdict.PROMOTE
    heard = {hour * 3_600: rollup_of(("A", "B"), {"oo": 300, "ob": 3}).tables() for hour in range(3)}
    assert gate(reviewed(hours=heard), GateName.DRIFT).state is GateState.PASS


def test_who_is_ranked_by_labels_is_decided_by_labelled_requests() -> None:
    undecided = {"oo": 90, "ob": 2, "bo": 2}
    assert gate(reviewed(undecided), GateName.BEST_SET).remedy.split("more ")[-1].startswith("requests")
    assert "more labelled requests" in gate(reviewed(undecided, by_labels=True), GateName.BEST_SET).remedy
    unlabelled = gate(reviewed({"dd": 10}, by_labels=True), GateName.BEST_SET)
    assert unlabelled.number == "no labels that every candidate can be judged by"
    assert "nothing compared" not in unlabelled.number


def test_the_worse_candidate_is_rejected_in_favour_of_the_better() -> None:
    review = reviewed(version="B")
    assert review.verdict is Verdict.REJECT
    best = gate(review, GateName.BEST_SET)
    assert (best.state, best.number, best.remedy) == (GateState.FAIL, "best set: A", "promote A instead")


def test_without_comparisons_there_is_no_data() -> None:
    review = reviewed({"dd": 10})
    assert review.verdict is Verdict.NO_DATA
    assert gate(review, GateName.TOP_REVIEWED).state is GateState.PASS
    assert gate(review, GateName.DIVERGENCE).state is GateState.UNKNOWN


def test_young_evidence_is_inconclusive_and_old_evidence_without_people_is_on_hold() -> None:
    assert reviewed({"oo": 90, "ob": 2, "bo": 2}).verdict is Verdict.INCONCLUSIVE
    review = reviewed(records=())
    assert review.verdict is Verdict.HOLD
    assert {each.name for each in review.holding} == {
        GateName.QUALITY,
        GateName.TOP_REVIEWED,
        GateName.COST,
        GateName.ROLLBACK_PLAN,
    }
    assert "shadowctl attest A cost --note" in gate(review, GateName.COST).remedy


def test_a_week_has_to_pass() -> None:
    review = reviewed(collected_for=5 * DAY)
    held = gate(review, GateName.MINIMUM_DURATION)
    assert (held.state, held.number, held.bound, held.remedy) == (
        GateState.UNKNOWN,
        "5 d",
        "at least 7 d",
        "2 d more",
    )
    assert review.verdict is Verdict.HOLD
    assert reviewed(collected_for=5 * DAY, limits=GateLimits(minimum_duration=0.0)).verdict is Verdict.PROMOTE


def test_the_divergence_gate_goes_by_the_interval_and_not_by_the_estimate() -> None:
    assert gate(reviewed({"o": 617}), GateName.DIVERGENCE).state is not GateState.FAIL
    assert gate(reviewed({"o": 300}), GateName.DIVERGENCE).state is GateState.UNKNOWN
    assert gate(reviewed({"o": 900, "b": 100}), GateName.DIVERGENCE).state is GateState.FAIL
    assert not gate(reviewed({"o": 960, "b": 40}), GateName.DIVERGENCE).final
    assert gate(reviewed({"o": 600, "b": 400}), GateName.DIVERGENCE).final


def test_proven_inferiority_rejects_even_who_was_acknowledged_as_agreement_only() -> None:
    worse = LabelledPair(only_candidate_right=10, only_live_right=400, alike=5_000)
    review = reviewed(labels=worse)
    assert gate(review, GateName.QUALITY).state is GateState.FAIL
    assert review.verdict is Verdict.REJECT


def test_labels_that_prove_non_inferiority_need_no_acknowledgement() -> None:
    level = LabelledPair(only_candidate_right=100, only_live_right=90, alike=20_000)
    quality = gate(reviewed(records=(), labels=level), GateName.QUALITY)
    assert (quality.state, quality.attestation) == (GateState.PASS, None)
    assert gate(reviewed(), GateName.QUALITY).attestation == PEOPLE[0]


def with_latencies(own: int, live: int, count: int = 20_000) -> Rollup:
    """All of A's latencies in one bin and all of live's in another."""
    cells = {Cell(Family.LATENCY, "A", str(own)): count, Cell(Family.LIVE_LATENCY, "A", str(live)): count}
    rest = rollup_of(("A",), {"o": 1_000})
    return Rollup({cell: n for cell, n in rest.cells.items() if "latency" not in cell.family} | cells)


@pytest.mark.parametrize(("own", "state"), [(1_000, GateState.PASS), (1_060, GateState.PASS), (1_100, GateState.FAIL)])
def test_latency_is_compared_by_its_proven_bounds(own: int, state: GateState) -> None:
    # Bins are 1 % wide: 70 of them double a latency.
    found = gate(reviewed({"o": 1}, rollup=with_latencies(own, 1_000)), GateName.LATENCY)
    assert found.state is state


def test_latency_is_advice_in_shadow_and_binds_in_a_rollout() -> None:
    slow = with_latencies(1_200, 1_000)
    assert gate(reviewed({"o": 1}, rollup=slow), GateName.LATENCY).advisory
    in_rollout = gate(reviewed({"o": 1}, rollup=slow, serving=True), GateName.LATENCY)
    assert in_rollout.holds_up


def test_failures_and_lost_copies_hold_up() -> None:
    assert gate(reviewed({"o": 900, "e": 100}), GateName.FAILURES).state is GateState.FAIL
    assert gate(reviewed({"o": 5_000}), GateName.FAILURES).state is GateState.PASS
    lossy = gate(reviewed({"o": 900, "d": 100}), GateName.COMPLETENESS)
    assert (lossy.state, lossy.number) == (GateState.FAIL, "90 % ended in a comparison")


def test_copies_that_one_candidate_does_not_get_ring() -> None:
    review = reviewed({"oo": 40_000, "uo": 4_000})
    ratio = gate(review, GateName.SAMPLE_RATIO)
    assert ratio.state is GateState.FAIL
    assert ratio.number.startswith("assigned: gap")
    wanted = {"A": 0.25 * 10 / 11, "B": 0.25}
    assert gate(reviewed({"oo": 40_000, "uo": 4_000}, shares=wanted), GateName.SAMPLE_RATIO).state is GateState.PASS


def test_an_outage_rejects_nobody_for_good() -> None:
    well, dead = rollup_of(("A",), {"o": 5_000}), rollup_of(("A",), {"e": 5_000})
    review = reviewed({"o": 1}, rollup=well + dead, buckets=(well, dead))
    divergence = gate(review, GateName.DIVERGENCE)
    assert review.verdict is Verdict.HOLD
    assert (divergence.final, divergence.remedy) == (False, "find out what changed, then start anew")
    assert divergence.number.endswith("; it changed over time")
    always = reviewed({"e": 10_000})
    assert always.verdict is Verdict.REJECT


def test_a_share_below_the_limit_proves_nothing_once_the_rate_has_changed() -> None:
    well, broken = rollup_of(("A",), {"o": 5_000}), rollup_of(("A",), {"o": 220, "b": 20})
    divergence = gate(reviewed({"o": 1}, rollup=well + broken, buckets=(well, broken)), GateName.DIVERGENCE)
    assert divergence.number == "0.382 %, between 0.15 % and 0.76 %; it changed over time"
    assert (divergence.state, divergence.remedy) == (GateState.UNKNOWN, "find out what changed, then start anew")


def test_who_lost_by_an_outage_is_not_rejected_for_good() -> None:
    well, dead = rollup_of(("A", "B"), {"oo": 4_900, "ob": 100}), rollup_of(("A", "B"), {"eo": 5_000})
    review = reviewed({"oo": 1}, rollup=well + dead, buckets=(well, dead))
    best = gate(review, GateName.BEST_SET)
    assert (best.state, best.remedy, best.final) == (GateState.FAIL, "promote B instead", False)
    assert review.verdict is Verdict.HOLD


@pytest.mark.parametrize(
    ("collected", "found", "missing"),
    [
        (5.0, "5 s", "7 d more"),
        (2 * DAY + 1, "2 d", "5 d more"),
        (5.5 * DAY, "5 d", "36 h more"),
        (7 * DAY - 61, "6 d", "61 s more"),
        (7 * DAY - 0.2, "6 d", "1 s more"),
    ],
)
def test_the_time_that_is_missing_is_never_said_to_be_shorter(collected: float, found: str, missing: str) -> None:
    duration = gate(reviewed(collected_for=collected), GateName.MINIMUM_DURATION)
    assert (duration.state, duration.number, duration.remedy) == (GateState.UNKNOWN, found, missing)


def test_shares_that_are_whole_are_not_rounded_past_themselves() -> None:
    complete = gate(reviewed({"o": 57, "x": 43}), GateName.COMPLETENESS)
    assert complete.number == "57 % ended in a comparison"


def test_latencies_above_a_second_are_plain_numbers() -> None:
    rollup = Rollup(
        {
            **rollup_of(("A",), {"o": 5_000}).cells,
            Cell(Family.LATENCY, "A", "1400"): 5_000,
            Cell(Family.LIVE_LATENCY, "A", "1300"): 5_000,
        }
    )
    assert (
        gate(reviewed({"o": 1}, rollup=rollup), GateName.LATENCY).number
        == "p99 1,120–1,130 ms beside live's 415–419 ms"
    )


def test_one_candidate_has_no_other_to_hold_its_share_against() -> None:
    ratio = gate(reviewed({"o": 900}), GateName.SAMPLE_RATIO)
    assert (ratio.state, ratio.number) == (GateState.PASS, "one candidate: no other to hold its share against")


def test_copies_that_all_are_uncomparable_fail_completeness() -> None:
    review = reviewed({"xx": 900})
    complete = gate(review, GateName.COMPLETENESS)
    assert (complete.state, complete.number) == (GateState.FAIL, "0 % ended in a comparison")
    assert gate(review, GateName.DIVERGENCE).remedy == "requests that can be compared"


def test_before_the_first_answer_no_latency_and_no_kind_of_request_is_claimed() -> None:
    review = reviewed({"dd": 10})
    assert gate(review, GateName.LATENCY).number == "no answer was timed yet"
    assert gate(review, GateName.SEGMENTS).number == "no kinds of request seen yet"


def test_copies_that_one_candidate_loses_ring() -> None:
    for version in ("A", "B"):
        ratio = gate(reviewed({"oo": 40_000, "do": 4_000}, version), GateName.SAMPLE_RATIO)
        assert ratio.state is GateState.FAIL
        # Held up is whoever is held against A; at fault is A.
        assert ratio.remedy == "see why copies for A are lost more often than others"
    assert gate(reviewed({"oo": 40_000}, shares=None), GateName.SAMPLE_RATIO).number.startswith(
        "assigned: not to be tested"
    )


def test_a_candidate_that_cannot_be_compared_at_all_says_nothing_of_the_others_samples() -> None:
    for version in ("B", "C"):
        ratio = gate(reviewed({"xoo": 40_000}, version), GateName.SAMPLE_RATIO)
        assert (ratio.state, ratio.number) == (GateState.PASS, "assigned: gap 0 %, e = 1; stored: gap 0 %, e = 0.333")
    alone = gate(reviewed({"xo": 40_000}, "B"), GateName.SAMPLE_RATIO)
    assert (alone.state, alone.number) == (GateState.PASS, "assigned: gap 0 %, e = 1; stored: not to be tested")


def test_a_rate_that_changes_rings_by_the_hour_however_narrow_the_buckets_are() -> None:
    steady, changed = rollup_of(("A",), {"o": 97, "b": 3}), rollup_of(("A",), {"o": 50, "b": 50})
    hours = {900 * bucket: (steady if bucket < 80 else changed).tables() for bucket in range(84)}
    drifted = gate(reviewed({"o": 1}, hours=hours, bucket_seconds=900), GateName.DRIFT)
    assert drifted.state is GateState.FAIL
    assert drifted.number == "1970-01-01 20:00 UTC: divergence rose from 3 % to 50 %"
    assert not gate(reviewed({"o": 1}, hours={}, bucket_seconds=900), GateName.DRIFT).holds_up


def test_a_kind_of_request_that_diverges_more_than_the_rest_fails() -> None:
    segment = Segment(
        feature="country",
        level="DE",
        n=1_000,
        diverged=80,
        failed=0,
        rate=Interval(estimate=0.08, lower=0.05, upper=0.12),
        rest_rate=0.001,
        log_evidence=30.0,
        alert=True,
        p_exact=1e-9,
        p_adjusted=1e-8,
    )
    nothing = segment_report.build({}, version="A", alpha=0.05)
    found = gate(reviewed(segments=replace(nothing, segments=(segment,))), GateName.SEGMENTS)
    assert (found.state, found.number) == (GateState.FAIL, "country DE: 8 % beside 0.1 %")
    for harmless in (replace(segment, alert=False), replace(segment, rest_rate=0.2)):
        kept = reviewed(segments=replace(nothing, segments=(harmless,)))
        assert gate(kept, GateName.SEGMENTS).state is GateState.PASS


def test_divergent_samples_are_asked_for_unless_a_safe_candidate_has_fewer() -> None:
    assert gate(reviewed(divergent_samples=49), GateName.DIVERGENT_SAMPLES).state is GateState.UNKNOWN
    safe = {"o": 5_000, "b": 3}
    assert gate(reviewed(safe, divergent_samples=3), GateName.DIVERGENT_SAMPLES).state is GateState.PASS
    missing = gate(reviewed(safe, divergent_samples=2), GateName.DIVERGENT_SAMPLES)
    assert missing.state is GateState.UNKNOWN
    assert (missing.number, missing.bound) == ("2 stored of 3 that diverged", "at least 50, or all that diverged")


def test_a_waiver_lets_one_candidate_pass_one_gate_and_stays_on_show() -> None:
    waiver = Record(version="A", subject="minimum_duration", waiver=True, text="urgent", by="ada", at=1.0)
    review = reviewed(collected_for=DAY, records=(*PEOPLE, waiver))
    assert review.verdict is Verdict.PROMOTE
    assert gate(review, GateName.MINIMUM_DURATION).waiver == waiver
    assert gate(review, GateName.MINIMUM_DURATION).state is GateState.UNKNOWN
    of_another = replace(waiver, version="B")
    assert reviewed(collected_for=DAY, records=(*PEOPLE, of_another)).verdict is Verdict.HOLD


def test_gates_stay_sound_at_a_billion_comparisons() -> None:
    review = reviewed({"oo": 10**9, "ob": 3 * 10**7, "bo": 10**6})
    assert review.verdict is Verdict.PROMOTE
    assert not any("nan" in each.number for each in review.gates)


def test_the_ten_least_similar_are_reviewed_one_by_one_or_vouched_for() -> None:
    for reviewed_ones, state in ((9, GateState.UNKNOWN), (10, GateState.PASS)):
        found = gate(reviewed(records=(), reviewed=reviewed_ones), GateName.TOP_REVIEWED)
        assert (found.state, found.number) == (state, f"{reviewed_ones} of 10 reviewed")
    assert gate(reviewed(records=(), divergent_samples=3, reviewed=3), GateName.TOP_REVIEWED).state is GateState.PASS


# --- what was withheld on purpose ---------------------------------------------------------------------------------


def with_drops(version: str, **reasons: int) -> Rollup:
    """The settled counts, and copies of one candidate that were not sent, by reason."""
    counts = rollup_of(("A", "B"), SETTLED)
    drops = sum(reasons.values())
    cells = {Cell(Family.OUTCOME, version, "dropped"): drops, Cell(Family.PAIR, "A|B", "xo"): drops}
    cells |= {Cell(Family.DROPPED_REASON, version, reason): count for reason, count in reasons.items()}
    return counts + Rollup(cells)


@pytest.mark.parametrize("reason", ["rate_limit", "bandwidth", "budget"])
def test_what_limits_leave_out_by_chance_makes_a_smaller_sample_and_no_hole_in_it(reason: str) -> None:
    review = reviewed(rollup=with_drops("A", **{reason: 20_000}))
    complete = gate(review, GateName.COMPLETENESS)
    assert complete.state is GateState.PASS
    assert complete.number == "100 % ended in a comparison; limits left out 20,000 more, by chance"
    assert gate(review, GateName.SAMPLE_RATIO).state is GateState.PASS


@pytest.mark.parametrize("reason", ["paused", "too_large", "circuit_open", "writes"])
def test_what_was_left_out_for_what_it_says_or_how_it_went_is_missing_and_no_fault_of_storing(reason: str) -> None:
    review = reviewed(rollup=with_drops("A", **{reason: 5_000}))
    assert gate(review, GateName.COMPLETENESS).state is GateState.FAIL
    assert gate(review, GateName.SAMPLE_RATIO).state is GateState.PASS


def test_copies_that_are_lost_for_any_other_reason_still_ring_the_alarm() -> None:
    review = reviewed(rollup=with_drops("A", in_flight_limit=5_000))
    assert gate(review, GateName.COMPLETENESS).state is GateState.FAIL
    assert gate(review, GateName.SAMPLE_RATIO).state is GateState.FAIL


def test_calls_that_an_open_circuit_spared_count_as_failed() -> None:
    spared = gate(reviewed(rollup=with_drops("A", circuit_open=3_000)), GateName.FAILURES)
    assert spared.state is GateState.FAIL
    assert spared.number.startswith("3,000 of 53,000 calls failed (3,000 of them spared by its open circuit)")
    assert gate(reviewed(rollup=with_drops("A", paused=3_000)), GateName.FAILURES).state is GateState.PASS


def test_nothing_but_withheld_copies_is_nothing_to_judge_completeness_by() -> None:
    cells = {Cell(Family.OUTCOME, "A", "dropped"): 9, Cell(Family.DROPPED_REASON, "A", "rate_limit"): 9}
    review = reviewed({"ou": 1}, rollup=Rollup(cells))
    assert gate(review, GateName.COMPLETENESS).number == "nothing compared"
