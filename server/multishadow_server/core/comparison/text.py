"""Text by ROUGE-L: the longest common subsequence of stemmed tokens.

C.-Y. Lin, "ROUGE: A package for automatic evaluation of summaries", 2004: with a common subsequence of l tokens, out of
n live and m shadow ones, recall r = l/n, precision p = l/m, F1 = 2pr/(p + r). Equal to `rouge-score` bit for bit
wherever that loses no letter (see `tokenization`) and at least one text has a token.

Where rouge-score is silent or says 0: identical texts are 1, two texts of nothing but white space too; texts without
any letter or digit are compared by their symbols ("..." against "?!" is 0); a text without tokens against one that has
some is 0, a divergence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rapidfuzz.distance import LCSseq

from multishadow_server.core.comparison.tokenization import symbols, tokens
from multishadow_server.core.comparison.verdict import Comparison, judged, uncomparable
from multishadow_server.core.prediction import Text

# Cells of the alignment's table that are paid for: about half a second. 50,000 tokens a side are aligned whole.
MOST_CELLS = 50_000 * 50_000


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """ROUGE-L F1 of two texts, in [0, 1].

    Args:
        f1: exact, or a lower bound.
        at_most: an upper bound; equal to `f1` when that is exact.
        approximation: how it was bounded, for a person; empty when exact.
    """

    f1: float
    at_most: float
    approximation: str = ""


def compare(threshold: float, live: Text, shadow: Text) -> Comparison:
    """They agree iff their ROUGE-L F1 is at least `threshold`.

    Uncomparable: `too_long_to_align`, for texts so long that their F1 is only known between bounds, when the threshold
    lies between these.
    """
    score = rouge_l(live.text, shadow.text)
    if score.f1 >= threshold:
        return judged(agree=True, similarity=score.f1, detail=score.approximation)
    if score.at_most >= threshold:
        return uncomparable("too_long_to_align", score.approximation)
    below = f"ROUGE-L F1 {score.f1:.4f} is below {threshold:g}"
    return judged(agree=False, similarity=score.f1, detail="; ".join(filter(None, (below, score.approximation))))


def rouge_l(live: str, shadow: str) -> Score:
    """ROUGE-L F1: exact while the product of the token counts is at most `MOST_CELLS`, else between bounds.

    Reading tokens is linear in the texts; aligning takes n·m cells. Beyond `MOST_CELLS` both token lists are cut at the
    same fractions of their lengths into so many pieces that aligning piece with piece stays within it. That can miss
    common tokens and never invents one: a lower bound. The upper one is the tokens in common in any order. Rejected:
    the first N tokens alone, which would call texts equal that differ only at their ends.
    """
    if live == shadow:
        return Score(f1=1.0, at_most=1.0)
    live_tokens, shadow_tokens = tokens(live), tokens(shadow)
    if not live_tokens and not shadow_tokens:
        live_tokens, shadow_tokens = symbols(live), symbols(shadow)
    if live_tokens == shadow_tokens:
        return Score(f1=1.0, at_most=1.0)
    if len(live_tokens) * len(shadow_tokens) > MOST_CELLS:
        return _bounded(live_tokens, shadow_tokens)
    exact = _aligned(live_tokens, shadow_tokens).f1
    return Score(f1=exact, at_most=exact)


def _bounded(live: Sequence[str], shadow: Sequence[str]) -> Score:
    pieces = -(-len(live) * len(shadow) // MOST_CELLS)
    pairs = zip(_cut(live, pieces), _cut(shadow, pieces), strict=True)
    lower = sum((_aligned(*pair) for pair in pairs), Alignment())
    upper = replace(lower, common=(Counter(live) & Counter(shadow)).total())
    return Score(
        f1=lower.f1,
        at_most=upper.f1,
        approximation=(
            f"{len(live):,} and {len(shadow):,} tokens are too many to align whole; "
            f"aligned in {pieces:,} pieces, F1 is between {lower.f1:.4f} and {upper.f1:.4f}"
        ),
    )


def _aligned(live: Sequence[str], shadow: Sequence[str]) -> Alignment:
    return Alignment(common=LCSseq.similarity(live, shadow), live=len(live), shadow=len(shadow))


def _cut(tokens: Sequence[str], pieces: int) -> Iterator[Sequence[str]]:
    for piece in range(pieces):
        yield tokens[len(tokens) * piece // pieces : len(tokens) * (piece + 1) // pieces]
