"""Classifications, numbers, raw bytes; and pairs of which no kind of comparison fits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import comparison
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import (
    Classification,
    Embedding,
    Prediction,
    Raw,
    Scalar,
    Structured,
    Text,
    Unreadable,
)

ONE_OF_EACH: list[Prediction] = [
    Classification(label="spam", confidence=0.9),
    Embedding(values=np.ones(3, dtype=np.float32)),
    Text(text="hello"),
    Structured(value={"a": 1.0}),
    Scalar(value=1.0),
    Raw(data=b"x"),
]


def compare(live: Prediction, shadow: Prediction, comparator: Comparator | None = None) -> comparison.Comparison:
    return comparison.compare(comparator or Comparator(), live, shadow)


def test_equal_labels_agree_and_the_confidence_is_tracked_apart() -> None:
    result = compare(Classification(label="spam", confidence=0.9), Classification(label="spam", confidence=0.4))

    assert (result.verdict, result.similarity) == (Verdict.AGREE, 1.0)
    assert result.confidence_delta == pytest.approx(-0.5)


@pytest.mark.parametrize("shadow", ["ham", "Spam", "spam "])
def test_other_labels_diverge_however_alike_they_look(shadow: str) -> None:
    result = compare(Classification(label="spam"), Classification(label=shadow))

    assert (result.verdict, result.similarity, result.confidence_delta) == (Verdict.DIVERGE, 0.0, None)
    assert repr(shadow) in result.detail


@pytest.mark.parametrize(("live", "shadow"), [(0.9, None), (None, 0.9), (math.nan, 0.9), (math.inf, 0.9)])
def test_a_confidence_that_is_missing_or_no_number_gives_no_delta(live: float | None, shadow: float | None) -> None:
    result = compare(Classification(label="a", confidence=live), Classification(label="a", confidence=shadow))

    assert (result.verdict, result.confidence_delta) == (Verdict.AGREE, None)


@pytest.mark.parametrize(("live", "shadow"), [("", ""), ("", "spam"), ("spam", "")])
def test_an_empty_label_is_uncomparable(live: str, shadow: str) -> None:
    result = compare(Classification(label=live), Classification(label=shadow))

    assert (result.verdict, result.reason) == (Verdict.UNCOMPARABLE, "empty_label")


@pytest.mark.parametrize(
    ("live", "shadow", "verdict", "similarity"),
    [
        (100.0, 100.5, Verdict.AGREE, 1 - 0.5 / 100.5),
        (100.0, 50.0, Verdict.DIVERGE, 0.5),
        (1.0, -1.0, Verdict.DIVERGE, 0.0),
        (0.0, 0.0, Verdict.AGREE, 1.0),
        (0.0, 0.005, Verdict.AGREE, 1.0),
        (0.0, 0.5, Verdict.DIVERGE, 0.0),
        (math.inf, math.inf, Verdict.AGREE, 1.0),
        (math.inf, 1.0, Verdict.DIVERGE, 0.0),
        (1.5e308, -1.5e308, Verdict.DIVERGE, 0.0),
    ],
)
def test_numbers_agree_within_tolerance(live: float, shadow: float, verdict: Verdict, similarity: float) -> None:
    comparator = Comparator(absolute_tolerance=0.01, relative_tolerance=0.01)

    result = compare(Scalar(value=live), Scalar(value=shadow), comparator)

    assert result.verdict is verdict
    assert result.similarity == pytest.approx(similarity)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_numbers_have_a_symmetric_similarity_between_0_and_1(a: float, b: float) -> None:
    forth, back = compare(Scalar(value=a), Scalar(value=b)), compare(Scalar(value=b), Scalar(value=a))

    assert (forth.verdict, forth.similarity) == (back.verdict, back.similarity)
    assert forth.similarity is not None
    assert 0.0 <= forth.similarity <= 1.0


@pytest.mark.parametrize(("live", "shadow"), [(math.nan, math.nan), (math.nan, 1.0), (1.0, math.nan)])
def test_nan_is_uncomparable(live: float, shadow: float) -> None:
    result = compare(Scalar(value=live), Scalar(value=shadow))

    assert (result.verdict, result.reason) == (Verdict.UNCOMPARABLE, "nan")


@pytest.mark.parametrize(
    ("live", "shadow", "verdict"),
    [
        (b"\x00\x01", b"\x00\x01", Verdict.AGREE),
        (b"\x00\x01", b"\x00\x02", Verdict.DIVERGE),
        (b"", b"", Verdict.UNCOMPARABLE),
        (b"", b"x", Verdict.UNCOMPARABLE),
        (b"x", b"", Verdict.UNCOMPARABLE),
    ],
)
def test_raw_bytes_agree_when_they_are_equal_and_not_empty(live: bytes, shadow: bytes, verdict: Verdict) -> None:
    assert compare(Raw(data=live), Raw(data=shadow)).verdict is verdict


@pytest.mark.parametrize("live", ONE_OF_EACH, ids=lambda answer: type(answer).__name__)
@pytest.mark.parametrize("shadow", ONE_OF_EACH, ids=lambda answer: type(answer).__name__)
def test_answers_of_one_kind_agree_with_themselves_and_of_two_kinds_are_uncomparable(
    live: Prediction, shadow: Prediction
) -> None:
    result = compare(live, shadow)

    if type(live) is type(shadow):
        assert (result.verdict, result.reason) == (Verdict.AGREE, "")
    else:
        assert (result.verdict, result.reason, result.similarity) == (Verdict.UNCOMPARABLE, "type_mismatch", None)
        assert type(live).__name__.lower() in result.detail


@pytest.mark.parametrize(
    ("live", "shadow", "reason"),
    [
        (Unreadable(reason="cut off"), Text(text="x"), "live_unreadable"),
        (Text(text="x"), Unreadable(reason="cut off"), "shadow_unreadable"),
        (Unreadable(reason="cut off"), Unreadable(reason="sets nothing"), "live_unreadable"),
    ],
)
def test_an_unreadable_answer_is_uncomparable_and_says_whose_it_is(
    live: Prediction, shadow: Prediction, reason: str
) -> None:
    result = compare(live, shadow)

    assert (result.verdict, result.reason) == (Verdict.UNCOMPARABLE, reason)
    assert "cut off" in result.detail


def test_small_answers_are_light_and_large_ones_heavy() -> None:
    assert not any(comparison.is_heavy(answer, answer) for answer in ONE_OF_EACH)
    heavy: list[Prediction] = [
        Text(text="word " * 5_000),
        Structured(value={"list": [0.0] * 10_000}),
        Embedding(values=np.ones(1_000_000, dtype=np.float32)),
    ]
    assert all(comparison.is_heavy(answer, answer) for answer in heavy)
