"""Text answers: ROUGE-L, equal to rouge-score where that can read the text, and sensible where it cannot."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from multishadow_server.core import comparison
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.comparison.text import MOST_CELLS, rouge_l
from multishadow_server.core.comparison.tokenization import tokens
from multishadow_server.core.model import Comparator
from multishadow_server.core.prediction import Text

ORACLE = RougeScorer(["rougeL"], use_stemmer=True)

# Among them the Kelvin sign, the one character outside ASCII that lowers to an ASCII letter and nothing else.
ENGLISH_WORDS = """
    the cat cats sat sitting on a mat relational relation happily happy 42 3.14 don’t it's — “quoted” e-mail A_b MAT
    Sat, generalizations oscillators 🙂 ❤ ™ \u212aelvin kelvin
""".split()  # noqa: SIM905  # thirty quoted strings would be read by nobody
ENGLISH = st.lists(st.sampled_from(ENGLISH_WORDS), max_size=40).map(" ".join)

THAI = "วันนี้อากาศดีมาก เราไปเที่ยวสวนสาธารณะ"
CHINESE = "今天天气很好，我们去公园散步。"


def compare(live: str, shadow: str, threshold: float = 0.85) -> comparison.Comparison:
    return comparison.compare(Comparator(threshold=threshold), Text(text=live), Text(text=shadow))


def oracle(live: str, shadow: str) -> float:
    return float(ORACLE.score(live, shadow)["rougeL"].fmeasure)


@given(ENGLISH, ENGLISH)
@example("The quick brown foxes are jumping", "the Quick, brown fox jumped!")
def test_english_scores_as_rouge_score_does_to_the_last_bit(live: str, shadow: str) -> None:
    if tokens(live) or tokens(shadow):
        assert rouge_l(live, shadow).f1 == oracle(live, shadow)


@given(st.text(st.characters(max_codepoint=127)), st.text(st.characters(max_codepoint=127)))
def test_any_ascii_scores_as_rouge_score_does_to_the_last_bit(live: str, shadow: str) -> None:
    if tokens(live) or tokens(shadow):
        assert rouge_l(live, shadow).f1 == oracle(live, shadow)


@given(
    st.text(st.characters(exclude_categories=("L", "M", "N", "Cs", "Cf")) | st.sampled_from("running cats 123")),
    st.text(st.characters(exclude_categories=("L", "M", "N", "Cs", "Cf")) | st.sampled_from("runs cat 123")),
)
def test_ascii_words_among_any_symbols_score_as_rouge_score_does(live: str, shadow: str) -> None:
    if tokens(live) or tokens(shadow):
        assert rouge_l(live, shadow).f1 == oracle(live, shadow)


@given(st.text(), st.text())
def test_any_two_texts_have_a_symmetric_similarity_between_0_and_1(live: str, shadow: str) -> None:
    score = rouge_l(live, shadow).f1

    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(rouge_l(shadow, live).f1, abs=1e-12)


@given(st.text())
def test_every_text_agrees_with_itself(text: str) -> None:
    assert compare(text, text, threshold=1.0).verdict is Verdict.AGREE


@pytest.mark.parametrize(
    "text", [THAI, CHINESE, "Привет, мир", "नमस्ते दुनिया", "안녕하세요 세계", "こんにちは世界", "ສະບາຍດີ"]
)
def test_text_of_any_script_is_1_with_itself_and_0_with_another(text: str) -> None:
    assert rouge_l(text, text + " ").f1 == 1.0  # not the same string: this goes through the tokens
    assert rouge_l(text, "something else entirely").f1 == 0.0
    assert oracle(text, text) == 0.0  # what a tokeniser of ASCII alone makes of it


def test_one_changed_character_of_a_script_without_spaces_costs_one_token() -> None:
    result = compare(CHINESE, CHINESE.replace("天气", "大气"))

    characters = sum(character.isalnum() for character in CHINESE)
    assert result.similarity == pytest.approx((characters - 1) / characters)
    assert result.verdict is Verdict.AGREE


def test_thai_vowels_and_tones_stay_with_their_consonant() -> None:
    assert tokens("ที่นี่") == ["ที่", "นี่"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Привет, мир!", ["привет", "мир"]),
        ("Ο δρόμος ΟΔΟΣ", ["ο", "δρόμος".replace("ς", "σ"), "οδοσ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("naïve café", ["naïve", "café"]),
        ("中文abcกิ", ["中", "文", "abc", "กิ"]),
        ("ＡＢＣ１２３", ["abc123"]),
        ("straße running", ["strass", "run"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("ok ❤️ 1️⃣ ok", ["ok", "1", "ok"]),
    ],
)
def test_words_of_spaced_scripts_are_tokens_and_unspaced_ones_give_characters(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize("text", ["café résumé", "Việt Nam", "が ガ", "한국어"])
def test_composed_and_decomposed_spellings_are_one_text(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)

    assert decomposed != text
    assert compare(text, decomposed, threshold=1.0).verdict is Verdict.AGREE


@pytest.mark.parametrize(("live", "shadow"), [("", ""), ("", " \n\t"), ("   ", "\u3000")])
def test_two_empty_texts_are_equal(live: str, shadow: str) -> None:
    result = compare(live, shadow)

    assert (result.verdict, result.similarity) == (Verdict.AGREE, 1.0)


@pytest.mark.parametrize(
    ("live", "shadow"), [("", "an answer"), ("an answer", ""), ("คำตอบ", "  "), ("...", "an answer")]
)
def test_an_empty_text_against_an_answer_is_a_divergence(live: str, shadow: str) -> None:
    result = compare(live, shadow)

    assert (result.verdict, result.similarity) == (Verdict.DIVERGE, 0.0)


@pytest.mark.parametrize(
    ("live", "shadow", "similarity"), [("👍", "👎", 0.0), ("?!", "? !", 1.0), ("👍👍", "👍", 2 / 3)]
)
def test_texts_without_any_letter_are_compared_by_their_symbols(live: str, shadow: str, similarity: float) -> None:
    assert compare(live, shadow).similarity == pytest.approx(similarity)


@pytest.mark.parametrize(("threshold", "verdict"), [(0.75, Verdict.AGREE), (0.7501, Verdict.DIVERGE)])
def test_a_similarity_equal_to_the_threshold_agrees(threshold: float, verdict: Verdict) -> None:
    result = compare("one two three four", "one two three five", threshold=threshold)

    assert (result.verdict, result.similarity) == (verdict, 0.75)


def test_identical_huge_texts_agree_without_being_read() -> None:
    huge = "word " * 3_000_000
    began = time.process_time()

    assert compare(huge, "".join(huge)).similarity == 1.0
    assert time.process_time() - began < 0.5


def test_huge_texts_that_hardly_differ_agree_and_say_how_they_were_aligned() -> None:
    words = [f"w{number % 977}" for number in range(60_000)]
    other = ["changed" if number % 50 == 0 else word for number, word in enumerate(words)]

    result = compare(" ".join(words), " ".join(other))

    assert len(words) ** 2 > MOST_CELLS
    assert result.verdict is Verdict.AGREE
    assert result.similarity == pytest.approx(0.98, abs=0.001)
    assert "60,000 and 60,000 tokens" in result.detail


def test_huge_texts_without_common_words_diverge() -> None:
    result = compare("alpha beta " * 30_000, "gamma delta " * 30_000)

    assert (result.verdict, result.similarity) == (Verdict.DIVERGE, 0.0)


def test_huge_texts_whose_verdict_is_not_certain_are_uncomparable() -> None:
    words = [f"w{number}" for number in range(60_000)]

    result = compare(" ".join(words), " ".join(words[30_000:] + words[:30_000]))

    assert (result.verdict, result.reason, result.similarity) == (Verdict.UNCOMPARABLE, "too_long_to_align", None)
    assert "between" in result.detail
