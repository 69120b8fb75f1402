"""What differs between two answers, by the kind of answer."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from multishadow_server.core import (
    answer_difference,
    class_difference,
    comparison,
    structure_difference,
    text_difference,
    vector_difference,
)
from multishadow_server.core.answer_difference import BytesDifference, NoDifference, NumberDifference
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
from multishadow_server.core.structure_difference import FieldState
from multishadow_server.core.text_difference import MOST_SHOWN_WORDS, Run, RunKind, TextDifference

SAME, CHANGED, FOLDED = RunKind
COMPARATOR = Comparator(threshold=0.9, ignored_fields=("meta.*", "id"), relative_tolerance=0.01)

texts = some.text(alphabet="ab c.\n東京é", max_size=60)
leaves = some.none() | some.booleans() | some.floats() | some.text(max_size=5)
keys = some.sampled_from(("a", "b", "id", "meta", "x.y"))
objects = some.dictionaries(
    keys,
    some.recursive(
        leaves,
        lambda each: some.lists(each, max_size=3) | some.dictionaries(keys, each, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def runs(side: list[Run] | object) -> list[tuple[RunKind, str]]:
    assert isinstance(side, list)
    return [(run.kind, run.text) for run in side]


def test_words_that_only_one_text_has_are_marked_on_its_side() -> None:
    found = text_difference.difference("The capital is Oslo.", "The big capital is Bergen.")
    assert runs(found.live) == [(SAME, "The capital is "), (CHANGED, "Oslo"), (SAME, ".")]
    assert runs(found.shadow) == [
        (SAME, "The "),
        (CHANGED, "big "),
        (SAME, "capital is "),
        (CHANGED, "Bergen"),
        (SAME, "."),
    ]
    assert (found.same, found.live_words, found.shadow_words) == (4, 5, 6)


def test_texts_of_scripts_without_spaces_are_compared_by_character() -> None:
    found = text_difference.difference("東京は首都です", "大阪は首都です")
    assert runs(found.live) == [(CHANGED, "東京"), (SAME, "は首都です")]


def test_texts_that_differ_in_white_space_alone_say_so() -> None:
    found = text_difference.difference("one two", "one  two\n")
    assert found.spaces_only
    assert found.same == 2


def test_long_stretches_that_are_the_same_are_folded() -> None:
    words = [f"w{n}" for n in range(1_000)]
    other = [*words[:500], "changed", *words[501:]]
    found = text_difference.difference(" ".join(words), " ".join(other))
    assert [(run.kind, run.words) for run in found.live] == [
        (FOLDED, 475),
        (SAME, 25),
        (CHANGED, 1),
        (SAME, 25),
        (FOLDED, 449),
        (SAME, 25),
    ]


@given(live=texts, shadow=texts)
def test_each_sides_runs_spell_its_text(live: str, shadow: str) -> None:
    found = text_difference.difference(live, shadow)
    for side, said in ((found.live, live), (found.shadow, shadow)):
        if all(run.kind is not FOLDED for run in side):
            assert "".join(run.text for run in side) == said


@given(live=texts, shadow=texts)
def test_both_sides_say_the_same_where_runs_are_the_same(live: str, shadow: str) -> None:
    found = text_difference.difference(live, shadow)
    same = ["".join(run.text for run in side if run.kind is SAME).split() for side in (found.live, found.shadow)]
    assert "".join(same[0]) == "".join(same[1])
    assert sum(run.words for run in found.live if run.kind is not CHANGED) == found.same


def test_two_texts_of_20_000_words_are_compared_in_no_time() -> None:
    draw = random.Random(7)
    live, shadow = (" ".join(f"w{draw.randrange(2_000)}" for _ in range(20_000)) for _ in range(2))
    began = time.process_time()
    found = text_difference.difference(live, shadow)
    assert time.process_time() - began < 1, "it takes about 0.1 s of processor time"
    assert "16 pieces" in found.notes[0]
    assert sum(run.words for run in found.live) == MOST_SHOWN_WORDS
    assert any("16,000 more words of live's text are not shown" in note for note in found.notes)


@pytest.mark.parametrize(
    "live", ["x" * 1_000_000, "a " * 600_000, "\u202e" * 100_000, "ท" * 300_000, "", "\n" * 500_000]
)
def test_a_hostile_text_is_shown_in_part_and_soon(live: str) -> None:
    began = time.process_time()
    found = text_difference.difference(live, "fine")
    assert time.process_time() - began < 2
    assert sum(len(run.text) for side in (found.live, found.shadow) for run in side) < 600_000


def test_a_word_without_end_is_cut() -> None:
    found = text_difference.difference("x" * 5_000, "y")
    assert runs(found.live) == [(CHANGED, "x" * 200 + "…")]


def test_classes_are_shown_that_were_chosen_then_the_likeliest() -> None:
    live = Classification(label="spam", confidence=0.7, probabilities={"spam": 0.7, "ham": 0.1, "other": 0.2})
    shadow = Classification(label="ham", confidence=0.9, probabilities={"ham": 0.9, "new": 0.1})
    found = class_difference.difference(live, shadow)
    assert [(line.label, line.live, line.shadow) for line in found.lines] == [
        ("ham", 0.1, 0.9),
        ("spam", 0.7, None),
        ("other", 0.2, None),
        ("new", None, 0.1),
    ]
    assert found.confidence_delta == pytest.approx(0.2)
    assert [line.label for line in found.lines if line.live_chose] == ["spam"]


def test_probabilities_that_are_no_numbers_are_not_shown_as_some() -> None:
    live = Classification(label="a", confidence=math.nan, probabilities={"a": math.nan, "b": math.inf})
    found = class_difference.difference(live, Classification(label="b"))
    assert [(line.live, line.shadow) for line in found.lines] == [(None, None)] * 2
    assert found.live_confidence is None
    assert found.confidence_delta is None
    assert not found.has_probabilities


def test_of_a_thousand_classes_a_dozen_are_shown() -> None:
    live = Classification(label="c1", probabilities={f"c{n}": n / 1e6 for n in range(1_000)})
    found = class_difference.difference(live, Classification(label="c0"))
    assert [line.label for line in found.lines][:3] == ["c1", "c0", "c999"]
    assert (len(found.lines), found.more) == (12, 988)


def test_fields_are_sorted_out_by_what_differs_what_is_tolerated_and_what_is_ignored() -> None:
    live = Structured(value={"a": 1.0, "b": 100.0, "id": "7", "meta": {"at": "now"}, "gone": None, "same": [1.0]})
    shadow = Structured(value={"a": 2.0, "b": 100.5, "id": "8", "meta": {"at": "then"}, "new": {}, "same": [1.0]})
    found = structure_difference.difference(COMPARATOR, live, shadow)
    assert [(line.path, line.state, line.live, line.shadow) for line in found.lines] == [
        ("a", FieldState.DIFFERS, "1.0", "2.0"),
        ("gone", FieldState.LIVE_ONLY, "null", None),
        ("new", FieldState.SHADOW_ONLY, None, "{}"),
        ("b", FieldState.IN_TOLERANCE, "100.0", "100.5"),
        ("id", FieldState.IGNORED, '"7"', '"8"'),
        ("meta.at", FieldState.IGNORED, '"now"', '"then"'),
        ("same.0", FieldState.SAME, "1.0", "1.0"),
    ]
    assert (found.differing, found.compared) == (3, 5)


@settings(max_examples=50)
@given(live=objects, shadow=objects)
def test_so_many_fields_differ_as_the_comparison_counted(live: dict[str, object], shadow: dict[str, object]) -> None:
    one, other = Structured(value=live), Structured(value=shadow)  # type: ignore[arg-type]  # JSON, as drawn above
    told = comparison.compare(COMPARATOR, one, other)
    found = structure_difference.difference(COMPARATOR, one, other)
    if told.similarity is not None:
        assert told.similarity == (found.compared - found.differing) / found.compared


def test_a_structure_with_too_much_in_it_is_shown_in_part() -> None:
    wide = Structured(value={f"key{n}": "x" * 10_000 if n < 10 else float(n) for n in range(50_000)})
    found = structure_difference.difference(COMPARATOR, wide, Structured(value={"a": 1.0}))
    assert found.cut
    assert len(found.of(FieldState.LIVE_ONLY)) == structure_difference.MOST_SHOWN
    assert max(len(line.live or "") for line in found.lines) < 400


def test_a_structure_without_end_below_is_not_descended_into() -> None:
    deep: object = 1.0
    for _ in range(90):
        deep = {"below": deep}
    found = structure_difference.difference(COMPARATOR, Structured(value={"a": deep}), Structured(value={"a": 1.0}))  # type: ignore[dict-item]  # JSON
    assert {line.live for line in found.lines} == {"1 more below", None}


def test_vectors_are_apart_by_angle_and_by_dimension() -> None:
    live, shadow = np.zeros(100, dtype=np.float32), np.zeros(100, dtype=np.float32)
    live[3], shadow[4] = 3.0, 4.0
    found = vector_difference.difference(Embedding(values=live), Embedding(values=shadow))
    assert (found.cosine, found.angle, found.distance) == (0.0, 90.0, 5.0)
    assert [(line.place, line.apart) for line in found.farthest[:3]] == [(4, 4.0), (3, -3.0), (0, 0.0)]
    assert [line.place for line in found.nearest] == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]


@settings(max_examples=50)
@given(some.lists(some.floats(width=32), max_size=8), some.lists(some.floats(width=32), max_size=8))
def test_the_cosine_is_the_comparisons(live: list[float], shadow: list[float]) -> None:
    one, other = (Embedding(values=np.array(each, dtype=np.float32)) for each in (live, shadow))
    told = comparison.compare(COMPARATOR, one, other)
    found = vector_difference.difference(one, other)
    if told.similarity is not None:
        assert found.cosine is not None
        assert max(0.0, found.cosine) == pytest.approx(told.similarity, abs=1e-9)
    if found.cosine is not None:
        assert told.similarity is not None


def test_numbers_are_apart_by_so_much_of_what_is_allowed() -> None:
    found = answer_difference.difference(COMPARATOR, Scalar(value=10.0), Scalar(value=12.5))
    assert found == NumberDifference(live=10.0, shadow=12.5, apart=2.5, relative=0.2, allowed=0.125, close=False)
    told = answer_difference.difference(COMPARATOR, Scalar(value=math.inf), Scalar(value=math.nan))
    assert isinstance(told, NumberDifference)
    assert (told.apart, told.relative, told.allowed, told.close) == (None, None, None, False)


@given(some.binary(max_size=80), some.binary(max_size=80))
def test_the_first_byte_that_differs_is_found(live: bytes, shadow: bytes) -> None:
    found = answer_difference.difference(COMPARATOR, Raw(data=live), Raw(data=shadow))
    assert isinstance(found, BytesDifference)
    if found.first is None:
        assert live == shadow
    else:
        assert live[: found.first] == shadow[: found.first]
        assert live[found.first : found.first + 1] != shadow[found.first : found.first + 1]


@pytest.mark.parametrize(
    ("live", "shadow", "said"),
    [
        (Unreadable(reason="bad"), Text(text=""), "live's answer cannot be read: bad"),
        (Text(text=""), Unreadable(reason="x" * 9_999), "the candidate's answer cannot be read: xxx"),
        (Text(text=""), Scalar(value=1.0), "the answers are of two kinds, text and scalar"),
    ],
)
def test_answers_that_cannot_be_held_beside_each_other_say_why(live: Prediction, shadow: Prediction, said: str) -> None:
    found = answer_difference.difference(COMPARATOR, live, shadow)
    assert isinstance(found, NoDifference)
    assert found.reason.startswith(said)
    assert len(found.reason) <= 500
    assert answer_difference.kind_of(found) == "no"


def test_every_kind_of_difference_has_a_word() -> None:
    found = answer_difference.difference(COMPARATOR, Text(text="a"), Text(text="b"))
    assert isinstance(found, TextDifference)
    assert answer_difference.kind_of(found) == "text"
