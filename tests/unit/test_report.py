"""Reports: from counts to ranks, verdicts and states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multishadow.v1 import control_pb2
from multishadow_server.core import latency, report
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.report import CandidateReport, Interval, PairReport, Report, State
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.ranking import Verdict
from multishadow_server.core.tally import Tally
from multishadow_server.errors import InvalidInput
from sightings import LIVE_LATENCY, NOON, an_epoch, rollup_of, seen

ABC = ("A", "B", "C")
# Of 10,000 requests A diverges on 0.2 %, B on 4 %, C on 9 %.
CLEAR = {"ooo": 8_790, "bbb": 10, "bob": 10, "obb": 90, "obo": 300, "oob": 790, "ood": 10}
# What the pair of A and B was seen to do, besides agreeing.
discordance = st.tuples(*[st.one_of(st.integers(0, 300), st.integers(0, 10**8))] * 4)


def report_on(patterns: Mapping[str, int], candidates: tuple[str, ...] = ABC, *, alpha: float = 0.05) -> Report:
    return report.build(rollup_of(candidates, patterns), model="spam", live="prod", candidates=candidates, alpha=alpha)


def candidate(found: Report, version: str) -> CandidateReport:
    (only,) = (candidate for candidate in found.candidates if candidate.version == version)
    return only


@pytest.mark.parametrize(
    ("value", "message", "added_by_control"),
    [
        (
            Report,
            control_pb2.CompareResponse,
            {"experiment", "epoch", "epoch_reason", "epoch_opened_at", "read_at", "reviews", "panel", "sessions"}
            | {"alarms", "sampling_share"},
        ),
        (CandidateReport, control_pb2.CandidateReport, set()),
        (PairReport, control_pb2.PairReport, set()),
        (Interval, control_pb2.Interval, set()),
    ],
)
def test_a_report_has_the_fields_of_the_api(value: type, message: type, added_by_control: set[str]) -> None:
    ours = {field.name for field in fields(value)}
    theirs = set(message.DESCRIPTOR.fields_by_name)  # type: ignore[attr-defined]  # generated messages have it
    assert ours == theirs - added_by_control


def test_clearly_different_candidates_are_ranked_and_the_best_one_wins() -> None:
    found = report_on(CLEAR)
    assert found.state is State.DECIDED
    assert found.winner == "A"
    assert [(each.version, each.rank_best, each.rank_worst) for each in found.candidates] == [
        ("A", 1, 1),
        ("B", 2, 2),
        ("C", 3, 3),
    ]
    assert [(pair.first, pair.second, pair.verdict) for pair in found.pairs] == [
        ("A", "B", Verdict.BETTER),
        ("A", "C", Verdict.BETTER),
        ("B", "C", Verdict.BETTER),
    ]


def test_the_order_of_registration_does_not_matter() -> None:
    def essence(found: Report) -> object:
        return found.candidates, found.pairs, found.state, found.winner, found.advice

    expected = essence(report_on(CLEAR))
    for order in permutations(range(3)):
        candidates = tuple(ABC[place] for place in order)
        patterns = {"".join(pattern[place] for place in order): count for pattern, count in CLEAR.items()}
        assert essence(report_on(patterns, candidates)) == expected


def test_a_candidate_counts_what_became_of_each_copy() -> None:
    found = report_on({"o": 50, "b": 20, "e": 10, "t": 5, "x": 10, "d": 5, "u": 1000}, ("A",))
    (only,) = found.candidates
    assert (only.n, only.agreed, only.diverged, only.errors, only.timeouts) == (85, 50, 20, 10, 5)
    assert (only.uncomparable, only.dropped) == (10, 5)
    assert only.completeness == pytest.approx(0.85)
    assert only.divergence is not None
    assert only.divergence.estimate == pytest.approx(35 / 85)
    assert only.divergence.lower < 35 / 85 < only.divergence.upper
    assert only.similarity == pytest.approx((50 + 20 * 0.25) / 85)
    assert only.dropped_by_reason == {"overloaded": 5}
    assert only.uncomparable_by_reason == {"dimension_mismatch": 10}
    assert only.errors_by_reason == {"UNAVAILABLE": 10}


def test_a_repeated_input_is_shown_and_counts_for_nothing() -> None:
    (only,) = report_on({"o": 50, "r": 900}, ("A",)).candidates
    assert (only.n, only.duplicates, only.dropped, only.completeness) == (50, 900, 0, 1.0)
    (pair,) = report_on({"oo": 50, "br": 900}, ("A", "B")).pairs
    assert (pair.n, pair.only_first_bad) == (50, 0)


def test_a_pair_whose_difference_comes_in_bursts_is_overdispersed() -> None:
    steady = [rollup_of(("A", "B"), {"oo": 90, "bo": 5 + hour % 2, "ob": 5}) for hour in range(24)]
    bursts = [rollup_of(("A", "B"), {"oo": 90, "bo": 40 * (hour % 6 == 0), "ob": 7}) for hour in range(24)]
    found = []
    for hours in (steady, bursts, bursts[:9], []):
        whole = sum(hours, Rollup())
        (pair,) = report.build(whole, model="spam", live="prod", candidates=("A", "B"), buckets=hours).pairs
        found.append((pair.dispersion is not None, pair.overdispersed))
    assert found == [(True, False), (True, True), (False, False), (False, False)]


def with_noise(patterns: Mapping[str, int], noise: str, count: int) -> Rollup:
    """Counts of A, and as many more requests on which live was asked again, with the outcome of both."""
    tally = Tally()
    for _ in range(count):
        tally.add_capture(
            an_epoch(("A",)),
            received_at=NOON,
            live_latency=LIVE_LATENCY,
            observations=seen(("A",), noise[0]),
            noise=seen((NOISE,), noise[1])[0],
        )
    (beside,) = tally.rollups().values()
    return rollup_of(("A",), patterns) + beside


def test_a_noise_floor_is_lives_divergence_from_itself_and_what_a_candidate_has_above_it() -> None:
    rollup = with_noise({"o": 500, "b": 40}, "oo", 400) + with_noise({}, "bo", 60) + with_noise({}, "ob", 12)
    rollup += with_noise({}, "bb", 6) + with_noise({}, "be", 3) + with_noise({}, "bx", 9)
    found = report.build(rollup, model="spam", live="prod", candidates=("A",))
    (only,) = found.candidates
    assert (only.n, found.pairs) == (540 + 490, ())
    assert found.noise_floor is not None
    assert (found.noise_floor.n, found.noise_floor.diverged, found.noise_floor.failed) == (481, 18, 3)
    floor = found.noise_floor.divergence
    assert floor.estimate == pytest.approx(21 / 481)
    assert floor.lower < 21 / 481 < floor.upper
    assert only.over_noise is not None
    assert only.over_noise.estimate == pytest.approx((60 - 12) / 481)
    assert 0 < only.over_noise.lower < 48 / 481 < only.over_noise.upper


def test_without_a_noise_floor_nothing_is_said_of_one() -> None:
    found = report_on({"o": 100}, ("A",))
    assert (found.noise_floor, found.candidates[0].over_noise) == (None, None)


def test_latencies_are_of_answers_and_of_live_on_the_same_requests() -> None:
    (only,) = report_on({"o": 99, "e": 500}, ("A",)).candidates
    assert only.latency_p50_ms == pytest.approx(20, rel=0.005)
    assert only.live_latency_p99_ms == pytest.approx(10, rel=0.005)


def test_a_p99_among_timeouts_is_infinite() -> None:
    (only,) = report_on({"o": 98, "t": 2}, ("A",)).candidates
    assert only.latency_p50_ms == pytest.approx(20, rel=0.005)
    assert only.latency_p99_ms == math.inf
    assert only.live_latency_p99_ms == pytest.approx(10, rel=0.005)


def test_a_candidate_without_comparisons_has_no_rank_and_an_unknown_band() -> None:
    found = report_on({"oox": 500, "obx": 500})
    c = candidate(found, "C")
    assert (c.n, c.completeness, c.divergence, c.similarity) == (0, 0.0, None, None)
    assert (c.ranked, c.rank_best, c.rank_worst, c.in_best_set) == (False, 0, 0, False)
    assert (c.band, c.band_proven, c.band_confirmed) == (Band.UNKNOWN, Band.UNKNOWN, False)
    assert found.candidates[-1] is c
    # A is proven better than B; C is unseen and may be better than both.
    assert [(each.version, each.rank_best, each.rank_worst) for each in found.candidates[:2]] == [
        ("A", 1, 2),
        ("B", 2, 3),
    ]


def test_nothing_seen_is_no_data() -> None:
    found = report.build(Rollup(), model="spam", live="prod", candidates=ABC)
    assert found.state is State.NO_DATA
    assert found.winner == ""
    assert [pair.difference for pair in found.pairs] == [Interval(estimate=0, lower=-1, upper=1)] * 3


def test_an_epoch_without_candidates_is_no_data() -> None:
    found = report.build(Rollup(), model="spam", live="prod", candidates=())
    assert (found.state, found.candidates, found.pairs) == (State.NO_DATA, (), ())


def test_live_failures_are_counted_and_belong_to_nobody() -> None:
    found = report.build(Rollup({Cell("live", "", "failed"): 7}), model="spam", live="prod", candidates=ABC)
    assert found.live_failures == 7
    assert {each.n for each in found.candidates} == {0}


def test_candidates_that_behave_alike_are_proven_equivalent_and_that_decides() -> None:
    found = report_on({"oo": 40_000, "bb": 400, "ob": 20, "bo": 22}, ("A", "B"))
    (pair,) = found.pairs
    assert pair.verdict is Verdict.EQUIVALENT
    assert pair.requests_needed is None
    assert found.state is State.DECIDED
    assert found.winner == ""


def test_an_open_pair_says_how_many_more_requests_it_needs() -> None:
    found = report_on({"oo": 400, "bo": 8, "ob": 20}, ("A", "B"))
    (pair,) = found.pairs
    assert (pair.first, pair.only_first_bad, pair.second, pair.only_second_bad) == ("A", 8, "B", 20)
    assert pair.verdict is Verdict.UNDECIDED
    assert pair.requests_needed is not None
    assert 100 < pair.requests_needed < 2_000


def test_one_candidate_is_decided_once_its_band_is_confirmed() -> None:
    early, late = report_on({"o": 300}, ("A",)), report_on({"o": 700}, ("A",))
    assert (early.state, early.winner) == (State.UNDECIDED, "")
    assert (late.state, late.winner) == (State.DECIDED, "A")
    assert late.pairs == ()
    assert (late.family_size, late.evidence_threshold) == (0, 0)


def test_one_comparable_candidate_of_several_is_no_decision() -> None:
    found = report_on({"ox": 5_000}, ("A", "B"))
    assert (found.state, found.winner) == (State.UNDECIDED, "")


def test_showing_fewer_candidates_changes_no_verdict() -> None:
    rollup = rollup_of(ABC, CLEAR)
    whole = report.build(rollup, model="spam", live="prod", candidates=ABC)
    part = report.narrow(whole, ("C", "A"))
    assert part.candidates == tuple(each for each in whole.candidates if each.version != "B")
    assert part.pairs == tuple(pair for pair in whole.pairs if "B" not in (pair.first, pair.second))
    assert (part.family_size, part.evidence_threshold) == (3, 120)


def test_impossible_levels_are_refused() -> None:
    for alpha in (0, 1, -0.1, math.nan):
        with pytest.raises(InvalidInput, match="alpha"):
            report.build(Rollup(), model="spam", live="prod", candidates=ABC, alpha=alpha)


@settings(max_examples=40)
@given(discordance, st.sampled_from([0.05, 0.01, 0.2]))
def test_verdict_interval_and_adjusted_p_never_disagree(seen: tuple[int, int, int, int], alpha: float) -> None:
    both_ok, only_a, only_b, both_bad = seen
    found = pair_report(both_ok, only_a, only_b, both_bad, alpha)
    (pair,) = found.pairs
    proven = pair.verdict in (Verdict.BETTER, Verdict.WORSE)
    assert proven == (pair.p_adjusted <= alpha)
    assert proven == (pair.difference.lower >= 0 or pair.difference.upper <= 0)
    assert pair.p_raw <= pair.p_adjusted
    assert (found.state is State.DECIDED) >= proven


@settings(max_examples=40)
@given(discordance)
def test_swapping_two_candidates_mirrors_the_report(seen: tuple[int, int, int, int]) -> None:
    both_ok, only_a, only_b, both_bad = seen
    one = pair_report(both_ok, only_a, only_b, both_bad)
    other = pair_report(both_ok, only_b, only_a, both_bad)
    swapped = {"A": "B", "B": "A"}
    if only_a != only_b:
        assert [swapped[each.version] for each in one.candidates] == [each.version for each in other.candidates]
        assert one.pairs[0].difference == other.pairs[0].difference
        assert one.winner == swapped.get(other.winner, "")
    assert one.state == other.state


def pair_report(both_ok: int, only_a: int, only_b: int, both_bad: int, alpha: float = 0.05) -> Report:
    """Straight from the cells that rank two candidates, so that counts may be huge."""
    cells = {
        Cell("outcome", "A", "ok"): both_ok + only_b,
        Cell("outcome", "A", "diverged"): both_bad + only_a,
        Cell("outcome", "B", "ok"): both_ok + only_a,
        Cell("outcome", "B", "diverged"): both_bad + only_b,
        Cell("pair", "A|B", "oo"): both_ok,
        Cell("pair", "A|B", "bo"): only_a,
        Cell("pair", "A|B", "ob"): only_b,
        Cell("pair", "A|B", "bb"): both_bad,
    }
    return report.build(Rollup(cells), model="spam", live="prod", candidates=("A", "B"), alpha=alpha)


def test_times_to_first_messages_are_reported_where_there_are_any() -> None:
    cells = {
        Cell("first_latency", "A", str(latency.bin_of(0.2))): 99,
        Cell("first_latency", "A", "inf"): 1,
        Cell("live_first_latency", "A", str(latency.bin_of(0.1))): 100,
    }
    rollup = rollup_of(ABC, {"ooo": 1}) + Rollup(cells)
    found = report.build(rollup, model="spam", live="prod", candidates=ABC)
    streamed = candidate(found, "A")
    assert streamed.first_latency_p50_ms == pytest.approx(200, rel=0.01)
    assert streamed.first_latency_p99_ms == pytest.approx(200, rel=0.01)
    assert streamed.live_first_latency_p50_ms == pytest.approx(100, rel=0.01)
    assert candidate(found, "B").first_latency_p50_ms is None
