"""Two texts, word by word: what both say, what only one of them says.

Words are aligned by their longest common subsequence (rapidfuzz's `LCSseq.opcodes`, bit-parallel: Hyyrö 2004), as
ROUGE-L counts them, but as they are written: neither stemmed nor folded, since somebody wants to see what differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from rapidfuzz.distance import LCSseq

from multishadow_server.core.comparison.tokenization import UNSPACED

# Beyond so many words a side, their beginnings alone are compared.
MOST_WORDS = 20_000
# Words have no end in base64 and its kin.
MOST_CHARACTERS = 1_000_000
# Cells of the alignment's table that are paid for: about 30 ms. 5,000 words a side are aligned whole.
MOST_CELLS = 5_000 * 5_000
# What is shown of a side; what follows is counted.
MOST_SHOWN_WORDS = 4_000
LONGEST_WORD = 200
# Words around what differs; longer stretches that are the same are folded.
CONTEXT = 25
LEAST_FOLDED = 20

# A word with the white space behind it; where a script has no spaces, a character; everything else alone.
_ASCII_WORDS = re.compile(r"\A\s+|\w+\s*|[^\w\s]\s*")
_WORDS = re.compile(rf"\A\s+|[^\W{UNSPACED}]+\s*|[{UNSPACED}]\s*|[^\w\s]\s*")


class RunKind(StrEnum):
    """What a run of words is: in both texts, in one only, or in both and left out (`folded`)."""

    SAME = "same"
    CHANGED = "changed"
    FOLDED = "folded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Words that follow each other; `text` is empty for folded ones, and `words` how many there are."""

    kind: RunKind
    text: str
    words: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDifference:
    """Two texts side by side.

    Args:
        live, shadow: each text's runs, in order.
        same: how many words both say, in the same order.
        live_words, shadow_words: how many there are that were compared.
        spaces_only: the words are the same, and what is between them differs.
        notes: what was not compared or is not shown, for a person.
    """

    live: Sequence[Run]
    shadow: Sequence[Run]
    same: int
    live_words: int
    shadow_words: int
    spaces_only: bool = False
    notes: Sequence[str] = ()


def difference(live: str, shadow: str) -> TextDifference:
    """What differs between two texts. Bounded in time and size; `notes` say what that left out."""
    notes: list[str] = []
    words = (_words(live, "live", notes), _words(shadow, "the candidate", notes))
    keys = [[word.rstrip() for word in side] for side in words]
    pairs = list(_matched(keys[0], keys[1], notes))
    sides = [_runs(side, pairs, of=n) for n, side in enumerate(words)]
    for runs, name in zip(sides, ("live's", "the candidate's"), strict=True):
        if (more := _shortened(runs)) > 0:
            notes.append(f"{more:,} more words of {name} text are not shown")
    return TextDifference(
        live=sides[0],
        shadow=sides[1],
        same=sum(length for _, _, length in pairs),
        live_words=len(words[0]),
        shadow_words=len(words[1]),
        spaces_only=keys[0] == keys[1] and live != shadow and not notes,
        notes=notes,
    )


def _words(text: str, whose: str, notes: list[str]) -> list[str]:
    if len(text) > MOST_CHARACTERS:
        notes.append(f"{whose}: the first {MOST_CHARACTERS:,} of {len(text):,} characters were compared")
    found = list(islice(_words_of(text[:MOST_CHARACTERS]), MOST_WORDS + 1))
    if len(found) > MOST_WORDS:
        notes.append(f"{whose}: the first {MOST_WORDS:,} words were compared, and what follows them was not")
    return found[:MOST_WORDS]


def _words_of(text: str) -> Iterator[str]:
    return (word.group() for word in (_ASCII_WORDS if text.isascii() else _WORDS).finditer(text))


def _matched(live: Sequence[str], shadow: Sequence[str], notes: list[str]) -> Iterator[tuple[int, int, int]]:
    """Stretches that both have: where each begins in live, in the shadow, and how long it is."""
    begin = 0
    least = min(len(live), len(shadow))
    while begin < least and live[begin] == shadow[begin]:
        begin += 1
    end = 0
    while end < least - begin and live[-1 - end] == shadow[-1 - end]:
        end += 1
    if begin:
        yield 0, 0, begin
    middles = live[begin : len(live) - end], shadow[begin : len(shadow) - end]
    pieces = max(1, -(-len(middles[0]) * len(middles[1]) // MOST_CELLS))
    if pieces > 1:
        notes.append(f"the texts were aligned in {pieces} pieces: what moved from one into another shows as changed")
    for piece in range(pieces):
        a, b = ((len(side) * piece // pieces, len(side) * (piece + 1) // pieces) for side in middles)
        for step in LCSseq.opcodes(middles[0][slice(*a)], middles[1][slice(*b)]):
            if step.tag == "equal":
                yield begin + a[0] + step.src_start, begin + b[0] + step.dest_start, step.src_end - step.src_start
    if end:
        yield len(live) - end, len(shadow) - end, end


def _runs(words: Sequence[str], pairs: Sequence[tuple[int, int, int]], *, of: int) -> list[Run]:
    runs: list[Run] = []
    at = 0
    for pair in pairs:
        begin, end = pair[of], pair[of] + pair[2]
        _add(runs, RunKind.CHANGED, words[at:begin])
        _add(runs, RunKind.SAME, words[begin:end])
        at = end
    _add(runs, RunKind.CHANGED, words[at:])
    return [part for n, run in enumerate(_joined(runs)) for part in _folded(run, first=n == 0)]


def _add(runs: list[Run], kind: RunKind, words: Sequence[str]) -> None:
    if words:
        runs.append(Run(kind=kind, text="".join(map(_cut, words)), words=len(words)))


def _joined(runs: Sequence[Run]) -> list[Run]:
    """Runs of one kind that follow each other, as one: stretches may meet on one side alone."""
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].kind is run.kind:
            last = joined.pop()
            joined.append(Run(kind=run.kind, text=last.text + run.text, words=last.words + run.words))
        else:
            joined.append(run)
    return joined


def _folded(run: Run, *, first: bool) -> Iterator[Run]:
    """A run, with the middle of a long stretch that is the same left out."""
    kept = CONTEXT * (1 if first else 2)
    if run.kind is not RunKind.SAME or run.words < kept + LEAST_FOLDED:
        yield run
        return
    words = list(_words_of(run.text))
    if len(words) != run.words:
        # A word that was cut reads as several.
        yield run
        return
    if not first:
        yield Run(kind=RunKind.SAME, text="".join(words[:CONTEXT]), words=CONTEXT)
    yield Run(kind=RunKind.FOLDED, text="", words=run.words - kept)
    yield Run(kind=RunKind.SAME, text="".join(words[-CONTEXT:]), words=CONTEXT)


def _shortened(runs: list[Run]) -> int:
    """Leave out what is beyond the bound; returns how many words that are."""
    shown = 0
    for n, run in enumerate(runs):
        if run.kind is RunKind.FOLDED:
            continue
        if shown + run.words > MOST_SHOWN_WORDS:
            words = list(islice(_words_of(run.text), MOST_SHOWN_WORDS - shown))
            left = sum(each.words for each in runs[n:] if each.kind is not RunKind.FOLDED) - len(words)
            runs[n:] = [Run(kind=run.kind, text="".join(words), words=len(words))] if words else []
            return left
        shown += run.words
    return 0


def _cut(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}…"
