"""Text by ROUGE-L: the longest common subsequence of stemmed tokens.

C.-Y. Lin, "ROUGE: A package for automatic evaluation of summaries", 2004: with a common subsequence of l tokens, out of
n live and m shadow ones, recall r = l/n, precision p = l/m, F1 = 2pr/(p + r). Equal to `rouge-score` bit for bit
wherever that loses no letter (see `tokenization`) and at least one text has a token.

Where rouge-score is silent or says 0: identical texts are 1, two texts of nothing but white space too; texts without
any letter or digit are compared by their symbols ("..." against "?!" is 0); a text without tokens against one that has
some is 0, a divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import LCSseq

from multishadow_server.core.comparison.tokenization import symbols, tokens
from multishadow_server.core.comparison.verdict import Comparison, judged
from multishadow_server.core.prediction import Text

# Exact up to here: about 80 ms of alignment, and 0.3 s of tokenisation.
EXACT_CELLS = 20_000 * 20_000
EXACT_CHARACTERS = 1_000_000
# Beyond, the texts are cut into pieces at the same fractions of their lengths, and piece is aligned with piece.
PIECE_CHARACTERS = 8_192
MOST_PIECES = 64

Tokenizer = Callable[[str], list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Counts of one alignment: the common subsequence and the two lengths, in tokens."""

    common: int = 0
    live: int = 0
    shadow: int = 0

    def __add__(self, other: Alignment) -> Alignment:
        return Alignment(
            common=self.common + other.common, live=self.live + other.live, shadow=self.shadow + other.shadow
        )

    @property
    def f1(self) -> float:
        """In [0, 1], in rouge-score's order of operations, so that it equals its result to the last bit."""
        if not self.common:
            return 0.0
        precision = self.common / self.shadow
        recall = self.common / self.live
        return 2 * precision * recall / (precision + recall)


def compare(threshold: float, live: Text, shadow: Text) -> Comparison:
    """They agree iff their ROUGE-L F1 is at least `threshold`. Never uncomparable."""
    score, approximation = similarity(live.text, shadow.text)
    agree = score >= threshold
    below = "" if agree else f"ROUGE-L F1 {score:.4f} is below {threshold:g}"
    return judged(agree=agree, similarity=score, detail="; ".join(filter(None, (below, approximation))))


def similarity(live: str, shadow: str) -> tuple[float, str]:
    """ROUGE-L F1 of two texts, and how it was approximated ("" when it is exact).

    Exact while both texts have at most `EXACT_CHARACTERS` characters and the product of their token counts is at most
    `EXACT_CELLS`; and for identical texts of any size. Cost is bounded: see `_by_pieces`.
    """
    if live == shadow:
        return 1.0, ""
    if max(len(live), len(shadow)) > EXACT_CHARACTERS:
        return _by_pieces(live, shadow)
    live_tokens, shadow_tokens = tokens(live), tokens(shadow)
    if not live_tokens and not shadow_tokens:
        live_tokens, shadow_tokens = symbols(live), symbols(shadow)
    if live_tokens == shadow_tokens:
        return 1.0, ""
    if len(live_tokens) * len(shadow_tokens) > EXACT_CELLS:
        return _by_pieces(live, shadow)
    return _aligned(live_tokens, shadow_tokens).f1, ""


def _aligned(live: Sequence[str], shadow: Sequence[str]) -> Alignment:
    return Alignment(common=LCSseq.similarity(live, shadow), live=len(live), shadow=len(shadow))


def _by_pieces(live: str, shadow: str) -> tuple[float, str]:
    """F1 of pieces at the same fractions of both texts; all of them, or `MOST_PIECES` at even distances.

    Pieces can only miss common tokens, never invent them, so with all pieces this is a lower bound. Rejected: the
    first N tokens alone, which would call two texts equal that differ only at the end.
    """
    pieces = -(-max(len(live), len(shadow)) // PIECE_CHARACTERS)
    compared = min(pieces, MOST_PIECES)
    chosen = [index * pieces // compared for index in range(compared)]
    pairs = [(_piece(live, index, pieces), _piece(shadow, index, pieces)) for index in chosen]
    total = _summed(pairs, tokens)
    if not total.live and not total.shadow:
        total = _summed(pairs, symbols)
    return total.f1, (
        f"texts of {len(live):,} and {len(shadow):,} characters are too long to align whole: "
        f"{compared} of {pieces} pieces were aligned one by one, so the similarity may be understated"
    )


def _piece(text: str, index: int, pieces: int) -> str:
    return text[len(text) * index // pieces : len(text) * (index + 1) // pieces]


def _summed(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer) -> Alignment:
    return sum((_aligned(tokenizer(live), tokenizer(shadow)) for live, shadow in pairs), Alignment())
