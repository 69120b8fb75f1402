"""Structured answers, field by field."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import comparison
from multishadow_server.core.comparison import Verdict, structured
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Json, Structured

leaves = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5)
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
objects = st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=5)


def compare(live: dict[str, Any], shadow: dict[str, Any], **comparator: Any) -> comparison.Comparison:
    return comparison.compare(Comparator(**comparator), Structured(value=live), Structured(value=shadow))


def nested(levels: int) -> dict[str, Json]:
    value: Json = 1.0
    for _ in range(levels):
        value = {"k": value}
    assert isinstance(value, dict)
    return value


@given(objects)
def test_every_object_agrees_with_itself(value: dict[str, Any]) -> None:
    result = compare(value, value)

    assert (result.verdict, result.similarity) == (Verdict.AGREE, 1.0)


@given(objects, objects)
def test_only_full_similarity_agrees_and_order_does_not_matter(live: dict[str, Any], shadow: dict[str, Any]) -> None:
    forth, back = compare(live, shadow), compare(shadow, live)

    assert (forth.verdict, forth.similarity) == (back.verdict, back.similarity)
    assert (forth.verdict is Verdict.AGREE) == (forth.similarity == 1.0)


def test_similarity_is_the_share_of_fields_that_agree_over_the_paths_of_both() -> None:
    result = compare({"a": 1.0, "b": "x", "c": [1.0, 2.0]}, {"a": 1.0, "b": "y", "c": [1.0], "d": None})

    assert (result.verdict, result.similarity) == (Verdict.DIVERGE, 2 / 5)  # a, c.0 of a, b, c.0, c.1, d
    assert (
        result.detail == '3 of 5 fields differ (live | shadow): b ("x" | "y"), c.1 (2.0 | missing), d (missing | null)'
    )


@pytest.mark.parametrize(
    ("live", "shadow"),
    [(True, 1.0), (False, 0.0), ("1", 1.0), (None, False), ({}, []), ({"0": 1.0}, [1.0]), ("", None)],
)
def test_values_of_different_types_differ(live: object, shadow: object) -> None:
    assert compare({"k": live}, {"k": shadow}).similarity == 0.0


@pytest.mark.parametrize(
    ("ignored", "verdict"),
    [
        (("meta.timestamp", "items.*.id"), Verdict.AGREE),
        (("meta", "items.*.id"), Verdict.AGREE),
        (("*.timestamp", "items.*.id"), Verdict.AGREE),
        (("meta.timestamp", "items.0.id"), Verdict.DIVERGE),
        (("timestamp", "items.*.id"), Verdict.DIVERGE),
        (("meta.timestamp", "items.*"), Verdict.AGREE),
        (("meta.timestamp", "*.id"), Verdict.DIVERGE),
    ],
)
def test_ignored_fields_are_left_out_and_a_star_stands_for_one_level(
    ignored: tuple[str, ...], verdict: Verdict
) -> None:
    live = {"label": "x", "meta": {"timestamp": 1.0, "n": 1.0}, "items": [{"id": 1.0}, {"id": 2.0, "v": 3.0}]}
    shadow = {"label": "x", "meta": {"timestamp": 2.0, "n": 1.0}, "items": [{"id": 8.0}, {"id": 9.0, "v": 3.0}]}

    assert compare(live, shadow, ignored_fields=ignored).verdict is verdict


def test_a_key_with_dots_is_ignored_by_its_name() -> None:
    assert compare({"a.b": 1.0, "c": 1.0}, {"a.b": 2.0, "c": 1.0}, ignored_fields=("a.b",)).verdict is Verdict.AGREE


@pytest.mark.parametrize(
    ("a", "b", "agrees"),
    [
        (100.0, 100.9, True),
        (100.0, 101.2, False),
        (0.0, 0.4, True),
        (0.0, 0.6, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (math.inf, 1e308, False),
    ],
)
def test_numbers_agree_within_the_larger_tolerance(a: float, b: float, agrees: bool) -> None:
    result = compare({"n": a}, {"n": b}, absolute_tolerance=0.5, relative_tolerance=0.01)

    assert (result.verdict is Verdict.AGREE) == agrees


@pytest.mark.parametrize(
    ("live", "shadow", "reason"),
    [
        ({}, {}, "empty_structure"),
        ({}, {"a": 1.0}, "empty_structure"),
        ({"a": 1.0}, {}, "empty_structure"),
        ({"a": math.nan}, {"a": math.nan}, "nan"),
        ({"a": {"b": [1.0]}}, {"a": {"b": [math.nan]}}, "nan"),
        ({"skip": 1.0}, {"skip": 2.0}, "nothing_compared"),
        (nested(200), nested(200), "structure_too_deep"),
        (nested(100_000), {"k": 1.0}, "structure_too_deep"),
        ({"k": [0.0] * (structured.MOST_LEAVES + 1)}, {"k": 1.0}, "structure_too_large"),
    ],
)
def test_structures_that_cannot_be_judged_are_uncomparable(
    live: dict[str, Any], shadow: dict[str, Any], reason: str
) -> None:
    result = compare(live, shadow, ignored_fields=("skip",))

    assert (result.verdict, result.similarity, result.reason) == (Verdict.UNCOMPARABLE, None, reason)


def test_an_ignored_nan_does_not_matter() -> None:
    assert compare({"a": math.nan, "b": 1.0}, {"a": 2.0, "b": 1.0}, ignored_fields=("a",)).verdict is Verdict.AGREE


def test_the_detail_stays_short_however_large_the_fields_are() -> None:
    result = compare({"k" * 10_000: "v" * 10_000, "n": 1.0}, {"n": 1.0, "m" * 10_000: ["v" * 10_000]})

    assert result.verdict is Verdict.DIVERGE
    assert len(result.detail) < 500
