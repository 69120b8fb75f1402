"""Labels: how they are read, whom they call right, and what a labelled request counts for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_server.core import labels
from multishadow_server.core.labels import Answered, Mark, Marked
from multishadow_server.core.model import Comparator
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.prediction import (
    Classification,
    Embedding,
    Json,
    Prediction,
    Raw,
    Scalar,
    Structured,
    Text,
    Unreadable,
)
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.errors import InvalidInput
from sightings import NOON, an_epoch

RIGHT, WRONG, UNJUDGED = Mark.RIGHT, Mark.WRONG, Mark.UNJUDGED


@pytest.mark.parametrize(
    ("value", "answer", "mark"),
    [
        ("spam", Classification(label="spam", confidence=0.6), RIGHT),
        ("spam", Classification(label="ham"), WRONG),
        (7.0, Classification(label="7"), RIGHT),
        (True, Classification(label="true"), RIGHT),
        ({"a": 1.0}, Classification(label="7"), UNJUDGED),
        ("spam", Classification(label=""), WRONG),
        ("", Classification(label="spam"), UNJUDGED),
        ("the cat sat on the mat", Text(text="the cat sat on the mat"), RIGHT),
        ("the cat sat on the mat", Text(text="no idea"), WRONG),
        (12.5, Scalar(value=12.5), RIGHT),
        ("12.5", Scalar(value=12.5), RIGHT),
        ("12.6", Scalar(value=12.5), WRONG),
        ("twelve", Scalar(value=12.0), UNJUDGED),
        ("inf", Scalar(value=12.0), UNJUDGED),
        (True, Scalar(value=1.0), UNJUDGED),
        (12.5, Scalar(value=float("nan")), WRONG),
        ({"a": 1.0}, Structured(value={"a": 1.0}), RIGHT),
        ('{"a": 1}', Structured(value={"a": 1.0}), RIGHT),
        ({"a": 2.0}, Structured(value={"a": 1.0}), WRONG),
        ("[1]", Structured(value={"a": 1.0}), UNJUDGED),
        ("spam", Unreadable(reason="no response"), WRONG),
        ("spam", Raw(data=b"spam"), UNJUDGED),
        ("spam", Embedding(values=np.ones(2, dtype=np.float32)), UNJUDGED),
    ],
)
def test_an_answer_is_right_when_it_agrees_with_the_label_in_its_own_kind(
    value: Json, answer: Prediction, mark: Mark
) -> None:
    assert labels.mark(Comparator(), value, answer) is mark


def test_the_comparator_decides_how_near_is_right() -> None:
    assert labels.mark(Comparator(absolute_tolerance=0.5), 12.0, Scalar(value=12.4)) is RIGHT
    assert labels.mark(Comparator(), 12.0, Scalar(value=12.4)) is WRONG


def seen(version: str, outcome: Outcome, similarity: float | None = None) -> Observation:
    return Observation(version=version, outcome=outcome, similarity=similarity)


def answered(*shadows: tuple[Observation, str | None], live: str = "spam") -> Answered:
    """A request that live and these shadows gave these labels."""
    return Answered(
        epoch=an_epoch(("A", "B", "C")),
        request_id="r",
        received_at=NOON + 3599.9,
        live=Classification(label=live),
        observations=[observation for observation, _ in shadows],
        answers=[None if label is None else Classification(label=label) for _, label in shadows],
    )


def test_failures_are_wrong_and_those_who_were_not_asked_are_left_out() -> None:
    request = answered(
        (seen("C", Outcome.TIMEOUT, 0.0), None),
        (seen("A", Outcome.OK, 1.0), "spam"),
        (seen("B", Outcome.DROPPED), None),
    )
    assert labels.marks("spam", request) == (
        Marked(version="prod", mark=RIGHT),
        Marked(version="A", mark=RIGHT, agreed=True, permille=1000),
        Marked(version="C", mark=WRONG),
    )


def test_a_labelled_request_counts_in_the_bucket_of_its_request() -> None:
    assert answered().bucket_start == 1_700_002_800


def test_a_labelled_request_counts_once_for_everybody_and_for_every_pair() -> None:
    request = answered((seen("A", Outcome.OK, 1.0), "spam"), (seen("B", Outcome.DIVERGED, 0.25), "ham"))
    assert labels.contribution(labels.marks("spam", request)) == Rollup(
        {
            Cell("label", "prod", "o"): 1,
            Cell("label", "A", "o"): 1,
            Cell("label", "B", "b"): 1,
            Cell("label_pair", "prod|A", "oo"): 1,
            Cell("label_pair", "prod|B", "ob"): 1,
            Cell("label_pair", "A|B", "ob"): 1,
            Cell("difference", "A", "ok/1000/same"): 1,
            Cell("difference", "B", "diverged/250/real"): 1,
        }
    )


def test_two_wrong_answers_say_nothing_about_a_difference() -> None:
    request = answered((seen("A", Outcome.OK, 1.0), "spam"), (seen("B", Outcome.DIVERGED, 0.0), "eggs"))
    cells = labels.contribution(labels.marks("ham", request)).cells
    assert {cell.family for cell in cells} == {"label", "label_pair"}


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(list(Mark))), unique_by=lambda each: each[0])
)
def test_taking_a_label_back_leaves_nothing(candidates: list[tuple[str, Mark]]) -> None:
    marked = [Marked(version="prod", mark=RIGHT)] + [
        Marked(version=version, mark=mark, agreed=True, permille=900) for version, mark in candidates
    ]
    once = labels.contribution(marked)
    assert set((once + labels.negative(once)).cells.values()) == {0}


@given(st.integers(0, 1000))
def test_a_similarity_at_a_threshold_is_not_below_it(permille: int) -> None:
    assert labels.permille_of(permille / 1000) == permille


@pytest.mark.parametrize(
    ("request_id", "value", "message"),
    [
        ("", "spam", "request_id: 1 to 1,000 characters"),
        ("r" * 1001, "spam", "request_id"),
        ("a\x00b", "spam", "no NUL"),
        ("r", None, "the label of request 'r' is missing"),
        ("r", float("nan"), "holds a number that is none"),
        ("r", "x" * 70_000, "at most 65,536 are allowed"),
    ],
)
def test_what_cannot_be_a_label_is_refused(request_id: str, value: Json, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        labels.check(request_id, value)
