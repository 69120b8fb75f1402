"""The Porter stemmer, as NLTK and therefore rouge-score run it.

M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, 130–137, with NLTK's extensions
(`nltk.stem.porter.PorterStemmer`, default mode). Written out here because importing NLTK costs each process more than
a second and 130 MB; a test holds the two together. Words are lower-case ASCII letters and digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_lowercase, digits

# NLTK's table of irregular forms.
_IRREGULAR = {
    "sky": "sky",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}

_SHAPE = str.maketrans({letter: "v" if letter in "aeiou" else "c" for letter in ascii_lowercase + digits} | {"y": "y"})

# In the paper's order: the first suffix that fits decides, even if its condition fails.
_STEP_2 = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
)
_STEP_3 = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
_STEP_4 = tuple(
    (suffix, "")
    for suffix in (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
        *("ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    )
)


def stem(word: str) -> str:
    """The word's stem: `stem("relational")` is `"relat"`."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _y_to_i(_past_and_gerund(_plural(word)))
    word = _replaced(_step_2(word), _STEP_3, least_measure=1)
    return _tidy(_replaced(word, _STEP_4, least_measure=2))


def _shape(word: str) -> str:
    """Each letter as "c" (consonant) or "v" (vowel); a y is a vowel after a consonant, and else a consonant."""
    shape = word.translate(_SHAPE)
    if "y" not in shape:
        return shape
    kinds: list[str] = []
    for kind in shape:
        kinds.append(kind if kind != "y" else "v" if kinds and kinds[-1] == "c" else "c")
    return "".join(kinds)


def _measure(stem: str) -> int:
    """The paper's m: how often consonants follow vowels."""
    return _shape(stem).count("vc")


def _ends_short(stem: str) -> bool:
    """The paper's *o: ends consonant, vowel, consonant that is not w, x or y; or, in NLTK, is vowel and consonant."""
    shape = _shape(stem)
    return (shape.endswith("cvc") and stem[-1] not in "wxy") or shape == "vc"


def _replaced(word: str, rules: Iterable[tuple[str, str]], *, least_measure: int) -> str:
    for suffix, replacement in rules:
        if word.endswith(suffix):
            stem = word.removesuffix(suffix)
            fits = _measure(stem) >= least_measure and (suffix != "ion" or stem[-1] in "st")
            return stem + replacement if fits else word
    return word


def _plural(word: str) -> str:
    """Step 1a: caresses, ponies, ties, cats; NLTK keeps the e of four-letter words (dies)."""
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past_and_gerund(word: str) -> str:
    """Step 1b: agreed, plastered, motoring; NLTK: spied is spi, died is die."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix) and "v" in _shape(word.removesuffix(suffix)):
            return _completed(word.removesuffix(suffix))
    return word


def _completed(stem: str) -> str:
    """What step 1b does after it took a suffix: conflat(e), hop(p), fil(e)."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) >= 2 and stem[-1] == stem[-2] and _shape(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _ends_short(stem) else stem


def _y_to_i(word: str) -> str:
    """Step 1c in NLTK's way: happy is happi, enjoy stays."""
    if word.endswith("y") and len(word) > 2 and _shape(word)[-2] == "c":
        return word[:-1] + "i"
    return word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        word = word[:-2]
    if word.endswith("logi"):
        # NLTK counts the l in, so that short stems like "geo" work as long ones do.
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, _STEP_2, least_measure=1)


def _tidy(word: str) -> str:
    """Step 5: probat(e), controll."""
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
