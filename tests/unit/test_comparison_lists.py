"""Places in lists of stored comparisons, segments as conditions, and what is alike."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from multishadow_server.core import comparison_lists, likeness, segment_filter, segments
from multishadow_server.core.comparison_lists import ComparisonFilter, Place, Sort, Which
from multishadow_server.core.keeping import Kept
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.prediction import Json
from multishadow_server.core.segment_filter import Range
from multishadow_server.entrypoints.web.divergence_terms import terms_of
from multishadow_server.errors import InvalidInput

SEEN = [
    Observation(version="A", outcome=Outcome.DIVERGED, similarity=0.4, latency=0.1),
    Observation(version="B", outcome=Outcome.OK, similarity=0.95, latency=0.3),
    Observation(version="C", outcome=Outcome.ERROR, similarity=0.0, latency=0.2),
    Observation(version="D", outcome=Outcome.UNCOMPARABLE, latency=0.25),
]


def half_open(lower: float, upper: float) -> Range:
    return Range(lower=lower, upper=upper, with_lower=True, with_upper=False)


def test_a_comparison_stands_by_its_least_similar_answer_that_was_compared() -> None:
    assert comparison_lists.similarity_of(SEEN) == 0.4
    assert comparison_lists.similarity_of(SEEN[2:]) == math.inf


def test_a_comparison_stands_by_its_slowest_candidate_and_a_timeout_is_slower_than_all() -> None:
    assert comparison_lists.latency_of(SEEN) == 0.3
    hung = Observation(version="E", outcome=Outcome.TIMEOUT, similarity=0.0)
    assert comparison_lists.latency_of([*SEEN, hung]) == math.inf
    assert comparison_lists.latency_of([]) == -math.inf


@given(some.floats(allow_nan=False), some.integers(0, (1 << 63) - 1))
def test_a_place_is_found_again_from_its_words(value: float, number: int) -> None:
    assert comparison_lists.place_from(str(Place(value, number))) == (value, number)


@pytest.mark.parametrize("text", ["", "~", "1", "1~", "~1", "nan~1", "1~x", "1~-1", "1~9223372036854775808", "x" * 999])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no place in a list"):
        comparison_lists.place_from(text)


def test_what_agreed_is_shown_from_the_uniform_sample_alone() -> None:
    assert Which.AGREED.kept_because == (Kept.SAMPLE,)
    assert Which.FAILED.outcomes == (Outcome.ERROR, Outcome.TIMEOUT)
    assert Which.ALL.kept_because == tuple(Kept)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (ComparisonFilter(least=math.nan), "least: a similarity lies between 0 and 1"),
        (ComparisonFilter(most=1.1), "most: a similarity"),
        (ComparisonFilter(least=0.5, most=0.4), "nothing lies between"),
        (ComparisonFilter(slower=-1.0), "slower: -1 is no latency"),
        (ComparisonFilter(since=2.0, until=2.0), "since: it is not before until"),
    ],
)
def test_bounds_that_nothing_lies_between_are_refused(terms: ComparisonFilter, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        comparison_lists.check(terms)


@pytest.mark.parametrize(
    ("level", "feature", "between", "paths"),
    [
        ("country=NO", "attributes.country", None, (("country",),)),
        ("attributes.app.version=3=4", "attributes.app.version", None, (("app.version",), ("app", "version"))),
        ("attributes.age=[20, 50)", "attributes.age", half_open(20, 50), (("age",),)),
        (
            "attributes.t=(-50, -20]",
            "attributes.t",
            replace(half_open(-50, -20), with_lower=False, with_upper=True),
            (("t",),),
        ),
        ("request bytes=[1e+09, inf)", "request bytes", half_open(1e9, math.inf), ()),
        ("live confidence=[0.9, 1]", "live confidence", replace(half_open(0.9, 1), with_upper=True), ()),
        ("hour (UTC)=07", "hour (UTC)", None, ()),
    ],
)
def test_a_level_of_a_report_is_read_back(level: str, feature: str, between: Range | None, paths: object) -> None:
    found = segment_filter.parse(level)
    assert (found.feature, found.range, found.paths) == (feature, between, paths)


@given(some.floats(allow_nan=False, allow_infinity=False))
def test_a_number_lies_in_the_range_of_its_own_level(number: float) -> None:
    between = segment_filter.parse(f"attributes.n={segments.binned(number)}").range
    assert between is not None
    assert between.holds(number) or number == 0, "a negative zero is written as the bin of zero"


@pytest.mark.parametrize("level", ["", "country", "=NO", "hour (UTC)=25", "request bytes=many", "country=(other)"])
def test_what_is_no_segment_is_refused(level: str) -> None:
    with pytest.raises(InvalidInput, match="segment: "):
        segment_filter.parse(level)


def test_the_most_alike_share_most_attributes_and_who_shares_none_is_not_alike() -> None:
    own: dict[str, Json] = {"country": "NO", "premium": True, "age": 41.0}
    others: list[tuple[str, dict[str, Json]]] = [
        ("far", {"country": "SE"}),
        ("near", {"country": "NO", "age": 30.0}),
        ("half", {"premium": True}),
    ]
    found = likeness.alike(own, others, most=5)
    assert [(each.what, list(each.shared)) for each in found] == [
        ("near", ["attributes.country=NO", "attributes.age=[20, 50)"]),
        ("half", ["attributes.premium=true"]),
    ]
    assert len(likeness.alike(own, others, most=1)) == 1


def test_a_querys_words_make_a_filter_and_what_is_empty_is_left_out() -> None:
    terms = terms_of({"which": "all", "least": "0.5", "slower": "250", "reviewed": "no", "since": "2026-11-26T14:00",
                      "version": "", "segment": "country=NO", "judged": "7"})  # fmt: skip
    assert terms.which.which is Which.ALL
    assert (terms.which.least, terms.which.slower, terms.which.reviewed) == (0.5, 0.25, False)
    assert terms.which.since == 1_795_701_600.0
    assert terms.sort is Sort.LEAST_SIMILAR
    assert set(terms.given) == {"which", "least", "slower", "reviewed", "since", "segment"}


@pytest.mark.parametrize(
    "query",
    [
        {"which": "bad"},
        {"sort": "upwards"},
        {"least": "half"},
        {"slower": "x"},
        {"reviewed": "maybe"},
        {"since": "noon"},
        {"epoch": "-1"},
        {"epoch": "9" * 30},
    ],
)
def test_words_that_cannot_be_read_are_named(query: dict[str, str]) -> None:
    (name,) = query
    with pytest.raises(InvalidInput, match=f"^{name}: "):
        terms_of(query)
