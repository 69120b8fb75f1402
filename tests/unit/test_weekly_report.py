"""Weekly reports: a week's counts in categories, what is wrong by name, and what it says in words."""

from __future__ import annotations

import math

import pytest

from multishadow_server.core import weekly_report
from multishadow_server.core.diagnosis import Fault
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.week_counts import Categories
from multishadow_server.core.week_patterns import Nature
from multishadow_server.core.weekly_report import CandidateWeek, Case, WeeklyReport
from weekly_fixtures import DAY, HOUR, LIVE, MONDAY, WEEK, hourly, material, only_epoch, times, week_of

EVEN = hourly(("A",), lambda _: {("o", ""): 196, ("b", ""): 4})


def candidate(found: WeeklyReport, version: str = "A") -> CandidateWeek:
    return next(each for each in only_epoch(found).candidates if each.version == version)


def faults(found: WeeklyReport) -> list[Fault]:
    return [each.fault for each in only_epoch(found).diagnoses]


# --- a week in numbers --------------------------------------------------------------------------------------------


def test_every_copy_is_in_one_category_and_they_add_up_to_what_was_observed() -> None:
    week = {"o": 50, "b": 20, "e": 10, "t": 5, "x": 10, "d": 5, "r": 3}
    found = week_of(("A",), hourly(("A",), lambda _: {(letter, ""): count for letter, count in week.items()}, hours=2))
    counted = candidate(found).categories
    assert counted == Categories(
        agreed=100, slow=0, disagreed=40, timeout=10, error=20, uncomparable=20, dropped=10, duplicate=6
    )
    parts = 100 + 0 + 40 + 10 + 20 + 20 + 10 + 6
    assert counted.observed == parts == 2 * sum(week.values())
    assert (counted.bad, counted.compared) == (70, 170)
    assert candidate(found).rate.bad == 70


def test_an_answer_that_agrees_slowly_is_slow_and_one_that_disagrees_slowly_disagrees() -> None:
    hour = Rollup(
        {
            Cell(Family.OUTCOME, "A", "ok"): 90,
            Cell(Family.OUTCOME, "A", "diverged"): 10,
            Cell(Family.SLOW, "A", "ok"): 30,
            Cell(Family.SLOW, "A", "diverged"): 4,
        }
    )
    counted = candidate(week_of(("A",), {MONDAY: hour})).categories
    assert (counted.agreed, counted.slow, counted.disagreed, counted.disagreed_slowly) == (60, 30, 10, 4)
    assert counted.observed == 100


def test_a_week_is_told_from_the_week_before_and_a_change_is_proven_or_not() -> None:
    def hours(number: int) -> dict[tuple[str, str], int]:
        return {("o", ""): 199, ("b", ""): 1} if number < 0 else {("o", ""): 196, ("b", ""): 4}

    found = candidate(week_of(("A",), hourly(("A",), hours, hours=14 * 24, first=-7 * 24)))
    assert (found.rate.bad, found.rate.n) == (4 * 168, 200 * 168)
    assert found.before is not None
    assert (found.before.bad, found.before.n) == (168, 200 * 168)
    assert found.proven_change

    same = candidate(week_of(("A",), hourly(("A",), lambda _: {("o", ""): 196, ("b", ""): 4}, hours=336, first=-168)))
    assert same.before is not None
    assert not same.proven_change
    assert candidate(week_of(("A",), EVEN)).before is None


def test_the_interval_of_a_week_is_the_confidence_sequence_of_its_counts() -> None:
    # 618 comparisons without divergence prove less than 1 % among three candidates (STATISTICS: bands of divergence).
    counts = {MONDAY: Rollup({Cell(Family.OUTCOME, name, "ok"): 618 for name in "ABC"})}
    interval = candidate(week_of(("A", "B", "C"), counts)).rate.interval
    assert interval is not None
    assert interval.lower == 0
    assert 0.0099 < interval.upper < 0.01


def test_days_are_those_of_the_week_alone() -> None:
    rollups = hourly(("A",), lambda _: {("o", ""): 99, ("b", ""): 1}, hours=9 * 24, first=-24)
    days = candidate(week_of(("A",), rollups)).days
    assert [day.starts_at for day in days] == [MONDAY + place * DAY for place in range(7)]
    assert {(day.rate.bad, day.rate.n) for day in days} == {(24, 2400)}


def test_a_week_that_is_not_over_is_marked() -> None:
    assert week_of(("A",), EVEN, now=MONDAY + 3 * DAY).partial
    assert "not over yet" in week_of(("A",), EVEN, now=MONDAY + 3 * DAY).summary
    assert not week_of(("A",), EVEN).partial


def test_a_week_of_a_hundred_times_the_requests_holds_as_many_cells() -> None:
    few, many = material(("A",), EVEN), material(("A",), times(EVEN, 100))
    assert [len(rollup.cells) for rollup in few.rollups.values()] == [len(r.cells) for r in many.rollups.values()]


def test_a_week_without_an_experiment_says_so() -> None:
    found = weekly_report.build(model="spam", week=WEEK, materials=[], live=LIVE, now=MONDAY + 8 * DAY)
    assert found.headline == "Nothing was compared"
    assert "no experiment of spam ran" in found.summary
    assert "1,209,600" in found.summary


# --- the four faults ----------------------------------------------------------------------------------------------


def test_a_miswired_comparator_is_named_when_it_cannot_read_the_answers() -> None:
    found = week_of(("A", "B"), hourly(("A", "B"), lambda _: {("xx", ""): 95, ("oo", ""): 5}))
    (first, *_) = only_epoch(found).diagnoses
    assert first.fault is Fault.COMPARATOR_FAILING
    assert first.versions == ("A", "B")
    assert "cannot read what it compares: 95 %" in first.said
    assert "every candidate" in first.meaning
    assert "dimension_mismatch" in first.evidence
    assert found.headline.startswith("Comparator failing (A and B)")
    assert "The comparator cannot read" in found.summary


def test_a_comparator_that_fails_one_candidate_alone_is_not_blamed_first() -> None:
    found = week_of(("A", "B"), hourly(("A", "B"), lambda _: {("xo", ""): 95, ("oo", ""): 5}))
    (first, *_) = only_epoch(found).diagnoses
    assert first.fault is Fault.COMPARATOR_FAILING
    assert first.versions == ("A",)
    assert "look at what these answer first" in first.meaning


def test_a_miswired_comparator_is_named_when_live_differs_from_itself() -> None:
    rollups = hourly(("A",), lambda _: {("b", ""): 60, ("o", ""): 40})
    rollups[MONDAY] += Rollup({Cell(Family.OUTCOME, NOISE, "diverged"): 600, Cell(Family.OUTCOME, NOISE, "ok"): 400})
    (first, *_) = only_epoch(week_of(("A",), rollups)).diagnoses
    assert first.fault is Fault.COMPARATOR_DOUBTFUL
    assert "prod differs from itself on 60 %" in first.said


def test_a_comparator_is_doubted_when_every_candidate_differs_on_nearly_everything() -> None:
    found = week_of(("A", "B"), hourly(("A", "B"), lambda _: {("bb", ""): 97, ("oo", ""): 3}))
    (first, *_) = only_epoch(found).diagnoses
    assert first.fault is Fault.COMPARATOR_DOUBTFUL
    assert "nearly every request" in first.said
    assert "ignored_fields" in first.remedy
    one_bad = week_of(("A", "B"), hourly(("A", "B"), lambda _: {("bo", ""): 97, ("oo", ""): 3}))
    assert Fault.COMPARATOR_DOUBTFUL not in faults(one_bad)


def test_a_shadow_that_died_in_the_week_is_named_with_when_and_nothing_else_is_blamed_on_it() -> None:
    def hours(number: int) -> dict[tuple[str, str], int]:
        return {("eo", ""): 200} if number >= 62 else {("oo", ""): 199, ("bo", ""): 1}

    found = week_of(("A", "B"), hourly(("A", "B"), hours))
    (dead, *others) = only_epoch(found).diagnoses
    assert dead.fault is Fault.SHADOW_DEAD
    assert dead.versions == ("A",)
    assert "A is dead: it answered none of 21,200 calls since Wed 18 Nov 14:00 UTC" in dead.said
    assert "UNAVAILABLE" in dead.evidence
    assert Fault.DRIFT not in [each.fault for each in others]
    assert candidate(found).pattern.nature is Nature.FAILING
    assert "A is dead" in found.summary


def test_an_outage_that_is_over_is_told_with_its_end() -> None:
    def hours(number: int) -> dict[tuple[str, str], int]:
        return {("e", ""): 200} if 10 <= number < 12 else {("o", ""): 200}

    (dead,) = only_epoch(week_of(("A",), hourly(("A",), hours))).diagnoses
    assert "A was dead from Mon 16 Nov 10:00 UTC to Mon 16 Nov 12:00 UTC" in dead.said
    assert "none of 400 calls in that time" in dead.said


def test_a_shadow_that_gets_nothing_while_others_do_is_named() -> None:
    def hours(number: int) -> dict[tuple[str, str], int]:
        return {("uo", ""): 200} if number >= 100 else {("oo", ""): 200}

    (silent,) = only_epoch(week_of(("A", "B"), hourly(("A", "B"), hours))).diagnoses
    assert silent.fault is Fault.SHADOW_SILENT
    assert "A got no copy since Fri 20 Nov 04:00 UTC, while 13,600 requests were sampled" in silent.said
    never = week_of(("A", "B"), hourly(("A", "B"), lambda _: {("uo", ""): 200}))
    assert "A got no copy all week" in only_epoch(never).diagnoses[0].said


@pytest.mark.parametrize(("before", "after", "way"), [(2, 12, "more"), (20, 2, "less")])
def test_a_drifting_candidate_is_named_either_way(before: int, after: int, way: str) -> None:
    def hours(number: int) -> dict[tuple[str, str], int]:
        bad = before if number < 80 else after
        return {("o", ""): 200 - bad, ("b", ""): bad}

    found = week_of(("A",), hourly(("A",), hours))
    (drift,) = only_epoch(found).diagnoses
    assert drift.fault is Fault.DRIFT
    assert f"it diverges {way} than before" in drift.said
    # It takes an hour or a few until the evidence is there.
    assert "A is drifting: from Thu 19 Nov" in drift.said
    assert candidate(found).pattern.nature is Nature.CHANGING
    assert "A is drifting" in found.summary


def test_a_candidate_that_is_bad_on_one_kind_of_request_is_named_with_the_kind() -> None:
    kinds = {
        ("o", "attributes.country=NO"): 30,
        ("b", "attributes.country=NO"): 10,
        ("o", "attributes.country=DE"): 159,
        ("b", "attributes.country=DE"): 1,
    }
    found = week_of(("A",), hourly(("A",), lambda _: kinds))
    (segment,) = only_epoch(found).diagnoses
    assert segment.fault is Fault.SEGMENT
    assert "where attributes.country = NO it diverges on 25 %, elsewhere on 0.62 %" in segment.said
    assert segment.meaning == "91 % of all its divergence is there."
    assert candidate(found).pattern.nature is Nature.SYSTEMATIC
    assert "country = NO" in found.summary


def test_even_divergence_without_a_pattern_is_called_random_and_nothing_is_wrong() -> None:
    found = week_of(("A",), EVEN)
    assert faults(found) == []
    pattern = candidate(found).pattern
    assert pattern.nature is Nature.NO_PATTERN
    assert pattern.said.startswith("Random, as far as can be told")
    looks = {look.test.split(":")[0]: look.found for look in pattern.looks}
    assert looks == {
        "segments": False,
        "drift": False,
        "bursts": None,
        "noise floor": None,
        "running interval": False,
    }


def test_little_divergence_is_not_called_anything() -> None:
    found = week_of(("A",), hourly(("A",), lambda number: {("o", ""): 20, ("b", ""): int(number % 60 == 0)}))
    assert candidate(found).pattern.nature is Nature.TOO_LITTLE


def test_copies_that_are_lost_are_named_and_what_limits_leave_out_is_not() -> None:
    lost = week_of(("A",), hourly(("A",), lambda _: {("o", ""): 80, ("d", ""): 20}))
    assert Fault.DROPS in faults(lost)
    limited = hourly(("A",), lambda _: {("o", ""): 80})
    limited[MONDAY] += Rollup(
        {Cell(Family.OUTCOME, "A", "dropped"): 4_000, Cell(Family.DROPPED_REASON, "A", "rate_limit"): 4_000}
    )
    assert faults(week_of(("A",), limited)) == []


# --- words --------------------------------------------------------------------------------------------------------


def test_the_first_paragraph_says_what_was_compared_how_it_went_and_what_to_do() -> None:
    found = week_of(("A", "B"), hourly(("A", "B"), lambda _: {("oo", ""): 190, ("ob", ""): 9, ("bb", ""): 1}))
    assert found.summary.startswith(
        "In week 2026-W47 (16 to 22 November 2026) A and B were compared with prod, which answers callers of spam, on "
        "33,600 of their requests."
    )
    assert "A differed from prod or failed on 0.50 % (about 1 in 200); that is proven to be below 1 %" in found.summary
    assert "B differed from prod or failed on 5.0 % (about 1 in 20)" in found.summary
    assert only_epoch(found).report.advice in found.summary
    assert candidate(found).standing.band is Band.SAFE


def test_a_report_that_is_kept_holds_nothing_of_single_requests() -> None:
    case = Case(id=7, request_id="r-7", received_at=MONDAY, distance=0.9, detail="Ada ≠ Bob", verdict=None)
    found = week_of(("A",), EVEN, cases={"A": [case]})
    (kept,) = candidate(weekly_report.without_traffic(found)).cases
    assert (kept.id, kept.distance, kept.command) == (7, 0.9, "shadowctl review show 7")
    assert (kept.request_id, kept.detail) == ("", "")


def test_drift_is_not_seen_before_a_second_hour() -> None:
    found = week_of(("A",), hourly(("A",), lambda _: {("o", ""): 200}, hours=1))
    drift = next(look for look in candidate(found).pattern.looks if look.test.startswith("drift"))
    assert drift.found is None
    assert weekly_report.drift_of((), "A", bucket_seconds=HOUR) == (None, -math.inf)


def test_an_outage_of_an_earlier_week_is_not_called_drift_in_this_one() -> None:
    def hours(number: int) -> dict[tuple[str, str], int]:
        return {("e", ""): 200} if number == -30 else {("o", ""): 198, ("b", ""): 2}

    found = week_of(("A",), hourly(("A",), hours, hours=14 * 24, first=-7 * 24))
    assert faults(found) == []
    drift = next(look for look in candidate(found).pattern.looks if look.test.startswith("drift"))
    assert drift.found, "it is told among the tests, and the gate that it fails tells of it, too"
