"""What differs between two answers: words, classes, fields, dimensions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multishadow_client.cli import answer_diff
from multishadow_client.cli.answer_diff import Field

TEXTS = st.text(alphabet="ab \n", max_size=60)


def test_texts_differ_by_words() -> None:
    found = answer_diff.words("the parcel arrives on friday", "the parcel comes on monday")
    assert list(found.live) == [("the parcel ", True), ("arrives ", False), ("on ", True), ("friday", False)]
    assert list(found.candidate) == [("the parcel ", True), ("comes ", False), ("on ", True), ("monday", False)]
    assert not found.cut


@given(TEXTS, TEXTS)
def test_no_word_is_lost_or_made_up(live: str, candidate: str) -> None:
    found = answer_diff.words(live, candidate)
    assert "".join(words for words, _ in found.live) == live
    assert "".join(words for words, _ in found.candidate) == candidate
    same = ["".join(words for words, equal in side if equal).split() for side in (found.live, found.candidate)]
    assert same[0] == same[1]


def test_long_texts_are_cut_and_it_is_said() -> None:
    found = answer_diff.words("word " * 10_000, "other")
    assert found.cut
    assert sum(len(words.split()) for words, _ in found.live) == answer_diff.MOST_WORDS


def test_classes_stand_with_both_probabilities() -> None:
    live = {"label": "ham", "probabilities": {"ham": 0.7, "spam": 0.3}}
    candidate = {"label": "spam", "confidence": 0.9}
    assert answer_diff.classes(live, candidate) == [
        Field(name="spam", live=0.3, candidate=0.9),
        Field(name="ham", live=0.7, candidate=None),
    ]


def test_objects_differ_by_path() -> None:
    live = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {}}
    candidate = {"a": {"b": 1, "c": [1, 3, 4]}, "e": {}}
    differing, equal = answer_diff.fields(live, candidate)
    assert differing == [
        Field(name="a.c.1", live=2, candidate=3),
        Field(name="d", live=None, candidate=None),
        Field(name="a.c.2", live=None, candidate=4),
    ]
    assert equal == 3


def test_embeddings_differ_by_their_cosine_and_farthest_dimensions() -> None:
    found = answer_diff.vectors([1.0, 0.0, 0.5], [1.0, 1.0, 0.5], most=1)
    assert found.cosine == pytest.approx(1.25 / (1.25**0.5 * 2.25**0.5))
    assert list(found.farthest) == [Field(name="1", live=0.0, candidate=1.0)]
    assert answer_diff.vectors([1.0], [1.0, 2.0]).cosine is None
    assert answer_diff.vectors([0.0], [0.0]).cosine is None
    assert answer_diff.vectors([float("nan")], [1.0]).cosine is None
