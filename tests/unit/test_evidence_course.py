"""Evidence over time: each point is what a report at that time said."""

from __future__ import annotations

import math

import pytest

from multishadow_server.core import evidence_course, report
from multishadow_server.core.evidence_course import EvidenceCourse
from multishadow_server.core.rollup import Family, Rollup, Tables
from sightings import rollup_of

ABC = ("A", "B", "C")
HOUR = 3_600
HOURS = [rollup_of(ABC, {"ooo": 90, "obo": 4 + hour % 3, "oob": 9, "boo": 1, "bob": 1, "xoo": 2}) for hour in range(30)]


def tables(hours: list[Rollup]) -> dict[int, Tables]:
    return {HOUR * place: hour.tables() for place, hour in enumerate(hours)}


def course(
    hours: list[Rollup], versions: tuple[str, ...] = ABC, *, most_points: int = evidence_course.MOST_POINTS
) -> EvidenceCourse:
    found = evidence_course.build(
        tables(hours), versions=versions, bucket_seconds=HOUR, alpha=0.05, most_points=most_points
    )
    assert found is not None
    return found


@pytest.mark.parametrize("until", [1, 7, 30])
def test_the_last_point_is_the_reports_evidence(until: int) -> None:
    found = report.build(sum(HOURS[:until], Rollup()), model="spam", live="prod", candidates=ABC)
    drawn = {(pair.first, pair.second): pair for pair in course(HOURS[:until]).pairs}
    for pair in found.pairs:
        known = drawn.get((pair.first, pair.second)) or drawn[pair.second, pair.first]
        assert known.log_worse(pair.first)[-1] == pair.log_evidence_first_worse
        assert known.log_worse(pair.second)[-1] == pair.log_evidence_second_worse


def test_every_point_is_the_reports_evidence_of_that_time() -> None:
    drawn = course(HOURS)
    (first,) = [pair for pair in drawn.pairs if (pair.first, pair.second) == ("A", "B")]
    for hour in range(len(HOURS)):
        then = report.build(sum(HOURS[: hour + 1], Rollup()), model="spam", live="prod", candidates=ABC)
        (pair,) = [each for each in then.pairs if {each.first, each.second} == {"A", "B"}]
        of_b = pair.log_evidence_first_worse if pair.first == "B" else pair.log_evidence_second_worse
        assert first.log_worse("B")[hour] == of_b
    assert drawn.ends == tuple(HOUR * (hour + 1) for hour in range(30))


def test_who_crosses_the_line_is_who_the_report_says_it_of() -> None:
    whole = report.build(sum(HOURS, Rollup()), model="spam", live="prod", candidates=ABC)
    drawn = course(HOURS)
    assert drawn.log_pair_threshold == math.log(whole.evidence_threshold)
    left = {version for version, values in drawn.log_not_best.items() if values[-1] >= drawn.log_best_threshold}
    assert left == {each.version for each in whole.candidates if not each.in_best_set}
    assert left
    assert "A" not in drawn.against("A")
    assert {name: values[-1] >= drawn.log_pair_threshold for name, values in drawn.against("A").items()} == {
        "B": True,
        "C": True,
    }


def test_known_counts_give_the_known_evidence() -> None:
    hours = [rollup_of(("A", "B"), {"oo": 5, "bo": 30, "ob": 15})] * 2
    (pair,) = course(hours, ("A", "B")).pairs
    # Check value: 60 bad for the first alone, 30 for the second.
    assert pair.log_first_worse[-1] == pytest.approx(4.010706167966462, rel=1e-12)


def test_many_buckets_are_drawn_by_some_of_their_ends_with_the_same_last_one() -> None:
    few, all_ = course(HOURS, most_points=7), course(HOURS)
    assert len(few.ends) == 7
    assert (few.ends[0], few.ends[-1]) == (all_.ends[0], all_.ends[-1])
    for some, every in zip(few.pairs, all_.pairs, strict=True):
        assert some.log_first_worse == tuple(every.log_first_worse[all_.ends.index(end)] for end in few.ends)


def test_one_candidate_alone_has_no_evidence_and_neither_has_an_epoch_without_counts() -> None:
    assert evidence_course.build(tables(HOURS), versions=("A",), bucket_seconds=HOUR, alpha=0.05) is None
    assert evidence_course.build({}, versions=ABC, bucket_seconds=HOUR, alpha=0.05) is None


def test_a_ranking_by_labels_is_drawn_from_labels() -> None:
    found = evidence_course.build(
        {0: {(Family.LABEL_PAIR, "A|B"): {"bo": 60, "ob": 30, "oo": 100}, (Family.PAIR, "A|B"): {"ob": 99}}},
        versions=("A", "B"),
        bucket_seconds=HOUR,
        alpha=0.05,
        family=Family.LABEL_PAIR,
    )
    assert found is not None
    assert found.pairs[0].log_first_worse[-1] == pytest.approx(4.010706167966462, rel=1e-12)
