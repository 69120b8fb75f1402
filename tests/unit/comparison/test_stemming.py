"""Our stemmer against NLTK's, the oracle."""

from __future__ import annotations

import re
import string
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer

from multishadow_server.core.comparison import stemming
from waiting import PATIENCE

ORACLE = PorterStemmer()

SUFFIXES = """
    ational tional enci anci izer bli abli alli entli eli ousli ization ation ator alism iveness fulness ousness aliti
    iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent ion
    ou ism ate iti ous ive ize ies sses ss s ied eed ed ing y e ll at bl iz ly
""".split()  # noqa: SIM905  # sixty quoted strings would be read by nobody

syllables = st.text(alphabet="aeioubcdlnstwxyz1", max_size=7)
words = st.builds(lambda start, ends: start + "".join(ends), syllables, st.lists(st.sampled_from(SUFFIXES), max_size=3))


@settings(max_examples=2_000)
@given(words.filter(bool))
def test_every_word_has_the_stem_that_nltk_gives_it(word: str) -> None:
    assert stemming.stem(word) == ORACLE.stem(word)


@given(st.text(alphabet=string.ascii_lowercase + string.digits, min_size=1))
def test_any_string_of_letters_and_digits_has_the_stem_that_nltk_gives_it(word: str) -> None:
    assert stemming.stem(word) == ORACLE.stem(word)


def test_real_prose_has_the_stems_that_nltk_gives_it() -> None:
    prose = set(
        re.findall("[a-z]+", f"{re.__doc__} {textwrap.__doc__} {PorterStemmer.__doc__} {string.__doc__}".lower())
    )

    assert len(prose) > 200
    assert {word: stemming.stem(word) for word in prose} == {word: ORACLE.stem(word) for word in prose}


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("relational", "relat"),
        ("hopping", "hop"),
        ("filing", "file"),
        ("flies", "fli"),
        ("dies", "die"),
        ("happy", "happi"),
        ("enjoy", "enjoy"),
        ("controll", "control"),
        ("radically", "radic"),
        ("skies", "sky"),
    ],
)
def test_the_papers_examples_and_nltks_exceptions_hold(word: str, stem: str) -> None:
    assert stemming.stem(word) == stem


def test_importing_the_comparison_does_not_import_nltk() -> None:
    source = "import sys; import multishadow_server.core.comparison; sys.exit('nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False, timeout=PATIENCE).returncode == 0
