"""Text as the tokens that ROUGE-L aligns.

rouge-score knows ASCII letters and digits alone; everything else separates. That loses nothing exactly where every
letter, mark, number and joiner of the lower-cased text is ASCII, whatever its punctuation and symbols are: there the
tokens here are rouge-score's. Elsewhere it drops words of other scripts and cuts words at accents, so that two
different Thai answers are both empty. There, a token is:

- a word, marks included, where a script separates words: Cyrillic, Greek, Arabic, Devanagari, Hangul, accented Latin;
- one character with its marks in scripts without spaces: Han, kana, Thai, Lao, Khmer, Myanmar and their kin. Finding
  their words takes a dictionary, and characters order the same texts alike.

Such tokens are case-folded and NFKC-normalised, so that composed, decomposed and full-width spellings are one; those
that come out as ASCII words are stemmed like any other.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from multishadow_server.core.comparison.stemming import stem

_ASCII_WORD = re.compile("[a-z0-9]+")

# Blocks (Unicode 14) of scripts that are written without spaces between words.
UNSPACED = "".join(
    f"{chr(first)}-{chr(last)}"
    for first, last in (
        (0x0E00, 0x0EFF),  # Thai, Lao
        (0x1000, 0x109F),  # Myanmar
        (0x1780, 0x17FF),  # Khmer
        (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
        (0x1A20, 0x1AAF),  # Tai Tham
        (0x1B00, 0x1B7F),  # Balinese
        (0x2E80, 0x2FDF),  # radicals
        (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
        (0x3021, 0x3029),  # Hangzhou numerals
        (0x3031, 0x312F),  # kana, bopomofo
        (0x31A0, 0x31BF),  # bopomofo extended
        (0x31F0, 0x31FF),  # katakana extensions
        (0x3400, 0x4DBF),  # Han
        (0x4E00, 0xA4CF),  # Han, Yi
        (0xA980, 0xA9DF),  # Javanese
        (0xA9E0, 0xA9FF),  # Myanmar extended-B
        (0xAA60, 0xAADF),  # Myanmar extended-A, Tai Viet
        (0xF900, 0xFAFF),  # Han compatibility
        (0xFF66, 0xFF9F),  # half-width kana
        (0x16FE0, 0x18DFF),  # Tangut, Khitan
        (0x1AFF0, 0x1B16F),  # kana supplements
        (0x20000, 0x3FFFF),  # Han
    )
)
# Used after separation, where everything that is neither \w nor space is a mark or a joiner.
_WORD = re.compile(rf"[{UNSPACED}][^\w\s]*|(?:[^\W{UNSPACED}][^\w\s]*)+")

_JOINERS = "\u200c\u200d"
_WITHOUT_JOINERS = str.maketrans("", "", _JOINERS)

# Longer "words" are junk (base64, repeated letters); keeping them would let hostile answers fill the memory.
_LONGEST_CACHED = 64


class _Separation(dict[int, str]):
    """A translation table for `str.translate` that learns each character when it first meets it."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character in _JOINERS or (unicodedata.category(character)[0] in "LMN" and not _selects_variant(code))
        self[code] = character if kept else " "
        return self[code]


def _selects_variant(code: int) -> bool:
    """Variation selectors are marks that belong to emoji and ideographs, and change no word."""
    return 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF


_SEPARATION = _Separation()


def tokens(text: str) -> list[str]:
    """The text's tokens in order; none for a text without letters and digits."""
    lowered = text.lower()
    if not lowered.isascii():
        lowered = lowered.translate(_SEPARATION)
    if lowered.isascii():
        return _each(_ASCII_WORD.findall(lowered))
    return [token for token in _each(_WORD.findall(lowered)) if token]


def symbols(text: str) -> list[str]:
    """Every character that is no white space: what is left to compare where neither text has a token."""
    return list("".join(text.split()))


def _each(words: list[str]) -> list[str]:
    if max(map(len, words), default=0) > _LONGEST_CACHED:
        return [_token(word) for word in words]
    return list(map(cached_token, words))


def _token(word: str) -> str:
    if not word.isascii():
        word = unicodedata.normalize("NFKC", word.translate(_WITHOUT_JOINERS).casefold())
    # rouge-score stems words of more than three letters only.
    return stem(word) if len(word) > 3 and _ASCII_WORD.fullmatch(word) else word


# The vocabulary of a language's everyday text fits; 65,536 entries take about 10 MB.
cached_token = lru_cache(maxsize=65_536)(_token)
