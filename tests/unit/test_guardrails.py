"""When a guardrail is kept, broken, or not decided yet."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from multishadow_server.core import guardrails
from multishadow_server.core.guardrails import Evidence, Guardrail, GuardrailName, Limits, Rules, Standing
from multishadow_server.core.latency import bin_of, histogram
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.statistics.non_inferiority import LabelledPair
from multishadow_server.core.statistics.two_samples import Rate

RULES = Rules(limits=Limits(), minimum_requests=100, entries=9, watched=frozenset(GuardrailName))


def served(n: int, *, failed: int = 0, seconds: float = 0.02, slow: int = 0, slow_seconds: float = 0.2) -> LiveCounts:
    latencies = {str(bin_of(seconds)): n - failed - slow}
    if slow:
        latencies[str(bin_of(slow_seconds))] = slow
    return LiveCounts(requests=n, failed=failed, latencies=latencies)


def judged(evidence: Evidence, rules: Rules = RULES) -> dict[GuardrailName, Guardrail]:
    return {each.name: each for each in guardrails.assess(evidence, rules)}


def standing_of(name: GuardrailName, evidence: Evidence, rules: Rules = RULES) -> Standing:
    return judged(evidence, rules)[name].standing


def errors(new: tuple[int, int], base: tuple[int, int]) -> Standing:
    evidence = Evidence(new=served(new[1], failed=new[0]), base=served(base[1], failed=base[0]))
    return standing_of(GuardrailName.ERRORS, evidence)


def test_no_request_is_no_evidence() -> None:
    found = judged(Evidence(reverse=Rate(bad=0, n=0)))
    assert {name: each.standing for name, each in found.items()} == {
        GuardrailName.ERRORS: Standing.WAITING,
        GuardrailName.LATENCY: Standing.WAITING,
        GuardrailName.DIVERGENCE: Standing.WAITING,
        GuardrailName.ACCURACY: Standing.KEPT,
    }


def test_a_version_that_fails_everything_is_severe_after_a_dozen_requests() -> None:
    assert errors((12, 12), (0, 1_000)) is Standing.SEVERE
    assert errors((1, 12), (0, 1_000)) is Standing.WAITING


def test_a_small_difference_in_errors_is_tolerated_and_a_larger_one_is_not() -> None:
    assert errors((0, 400), (0, 4_000)) is Standing.KEPT
    assert errors((1_050, 100_000), (200, 100_000)) is Standing.KEPT
    assert errors((2_500, 100_000), (200, 100_000)) is Standing.BROKEN
    assert errors((9_000, 100_000), (200, 100_000)) is Standing.SEVERE


def test_callers_mistakes_count_for_both_and_stop_nobody() -> None:
    assert errors((8_000, 20_000), (8_000, 20_000)) is Standing.KEPT


def test_few_requests_keep_a_stage_waiting_until_a_severe_difference_is_excluded() -> None:
    assert errors((0, 99), (0, 10_000)) is Standing.WAITING
    assert errors((0, 150), (0, 10_000)) is Standing.WAITING
    assert errors((0, 250), (0, 10_000)) is Standing.KEPT
    assert errors((0, 10_000), (0, 50)) is Standing.WAITING


def test_a_slower_version_is_stopped_and_one_that_is_slower_by_nothing_worth_is_not() -> None:
    base = served(20_000)
    for seconds, standing in ((0.02, Standing.KEPT), (0.03, Standing.KEPT), (0.06, Standing.BROKEN),
                              (0.2, Standing.SEVERE)):  # fmt: skip
        evidence = Evidence(new=served(5_000, seconds=seconds), base=base)
        assert standing_of(GuardrailName.LATENCY, evidence) is standing, seconds
    # Four times as long, and nobody would notice: 2 ms instead of 0.5.
    quick = Evidence(new=served(5_000, seconds=0.002), base=served(20_000, seconds=0.0005))
    assert standing_of(GuardrailName.LATENCY, quick) is Standing.KEPT
    timing_out = Evidence(
        new=replace(served(5_000, failed=300), latencies={**served(4_700).latencies, "inf": 300}), base=base
    )
    assert standing_of(GuardrailName.LATENCY, timing_out) is Standing.SEVERE


def test_a_slow_hundredth_is_seen_in_the_tail_alone() -> None:
    evidence = Evidence(new=served(20_000, slow=600), base=served(20_000, slow=20))
    assert standing_of(GuardrailName.LATENCY, evidence) is Standing.SEVERE
    assert standing_of(GuardrailName.ERRORS, evidence) is Standing.KEPT


def divergence(reverse: Rate | None, forward: Rate | None = None, **limits: float) -> Guardrail:
    rules = replace(RULES, limits=replace(Limits(), **limits))
    evidence = Evidence(new=served(1_000), base=served(1_000), reverse=reverse, forward=forward)
    return judged(evidence, rules)[GuardrailName.DIVERGENCE]


def test_divergence_is_held_to_what_was_accepted() -> None:
    assert divergence(Rate(bad=0, n=1_000)).standing is Standing.KEPT
    assert divergence(Rate(bad=40, n=1_000)).standing is Standing.BROKEN
    assert divergence(Rate(bad=300, n=1_000)).standing is Standing.SEVERE
    accepted = divergence(Rate(bad=300, n=1_000), Rate(bad=300, n=1_000), divergence=0.35)
    assert accepted.standing is Standing.KEPT


def test_what_is_told_of_divergence_claims_no_more_than_was_proven() -> None:
    found = divergence(Rate(bad=1, n=479))
    assert found.bounds is not None
    assert 0 < found.bounds.lower < 1e-6
    assert found.found == "0.209 %, 0 % – 2.58 %"
    assert found.bounds.upper <= 0.0258


def test_a_version_that_answers_callers_differently_than_it_did_as_a_shadow_is_stopped() -> None:
    found = divergence(Rate(bad=250, n=1_000), Rate(bad=50, n=1_000), divergence=0.3)
    assert found.standing is Standing.BROKEN
    assert "50 of 1,000 diverged while it shadowed" in found.base


def test_divergence_that_nobody_measures_any_more_holds_a_rollout_that_had_it() -> None:
    assert divergence(None).standing is Standing.WAITING
    assert "has ended" in divergence(None).found
    unwatched = replace(RULES, watched=frozenset({GuardrailName.ERRORS, GuardrailName.LATENCY}))
    assert standing_of(GuardrailName.DIVERGENCE, Evidence(), unwatched) is Standing.UNWATCHED
    assert standing_of(GuardrailName.ACCURACY, Evidence(), unwatched) is Standing.UNWATCHED


def accuracy(only_new: int, only_base: int, alike: int) -> Standing:
    labels = LabelledPair(only_candidate_right=only_new, only_live_right=only_base, alike=alike)
    return standing_of(GuardrailName.ACCURACY, Evidence(labels=labels))


def test_labels_stop_a_version_that_is_right_less_often_and_are_never_waited_for() -> None:
    assert accuracy(0, 0, 0) is Standing.KEPT
    assert accuracy(200, 20, 780) is Standing.KEPT
    assert accuracy(40, 110, 1_850) is Standing.BROKEN
    assert accuracy(10, 200, 790) is Standing.SEVERE


def test_counts_add_and_a_latency_falls_into_the_bin_of_the_histogram() -> None:
    total = served(10, failed=1) + served(5, failed=2, seconds=0.5)
    assert (total.requests, total.failed, total.answered) == (15, 3, 12)
    assert sum(total.latencies.values()) == 12
    for seconds in (1e-9, 0.00123, 0.02, 7.5):
        assert set(histogram(np.array([seconds]))) == {str(bin_of(seconds))}
    assert not math.isinf(bin_of(0.0))
