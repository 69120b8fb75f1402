"""ROUGE-L F1 here against `rouge-score`, on the same texts in the same run.

    python bench/rouge_l.py

Texts: words drawn by Zipf's law from a vocabulary with real suffixes, the second made from the first by replacing,
dropping and adding words. Both are warm: rouge-score's stemmer has no cache to warm; ours holds the vocabulary, as it
does in a worker after its first answers. The column "cold" has this cache emptied before each call.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table
from rouge_score.rouge_scorer import RougeScorer

from multishadow_server.core.comparison import tokenization
from multishadow_server.core.comparison.text import rouge_l

VOCABULARY = 5_000
SUFFIXES = ("", "", "", "s", "ed", "ing", "ly", "ation", "ational", "iveness", "ability", "er", "ous")


def vocabulary(rng: random.Random) -> list[str]:
    """Distinct words of two to four syllables, with suffixes that the stemmer takes off."""
    syllables = [consonant + vowel for consonant in "bcdfglmnprst" for vowel in "aeiou"]
    words: set[str] = set()
    while len(words) < VOCABULARY:
        words.add("".join(rng.choices(syllables, k=rng.randint(2, 4))) + rng.choice(SUFFIXES))
    return sorted(words)


def pair(rng: random.Random, words: list[str], tokens: int) -> tuple[str, str]:
    """A text and an edited copy of it: about a fifth of the words differ."""
    weights = [1 / (rank + 1) for rank in range(len(words))]
    live = rng.choices(words, weights, k=tokens)
    shadow: list[str] = []
    for word in live:
        draw = rng.random()
        shadow += [] if draw < 0.07 else [rng.choice(words)] if draw < 0.14 else [word]
        shadow += [rng.choice(words)] if draw > 0.93 else []
    return " ".join(live), ", ".join(shadow)


def seconds(call: Callable[[], object], *, rounds: int) -> float:
    """Median duration of one call."""
    durations = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations)


def cold(live: str, shadow: str) -> None:
    """One call that has seen no word before."""
    tokenization.cached_token.cache_clear()
    rouge_l(live, shadow)


def main() -> None:
    """Print the table."""
    rng = random.Random(7)  # a bench wants the same texts each time
    words = vocabulary(rng)
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    table = Table(
        "tokens a side", "rouge-score ms", "ours ms", "cold ms", "ratio", "cold ratio", "equal", title="ROUGE-L"
    )
    for tokens, rounds in ((20, 30), (100, 20), (400, 10), (2_000, 3)):
        live, shadow = pair(rng, words, tokens)
        theirs = seconds(partial(rouge.score, live, shadow), rounds=rounds)
        chilly = seconds(partial(cold, live, shadow), rounds=rounds * 5)
        rouge_l(live, shadow)
        ours = seconds(partial(rouge_l, live, shadow), rounds=rounds * 50)
        equal = rouge.score(live, shadow)["rougeL"].fmeasure == rouge_l(live, shadow).f1
        numbers = (f"{value * 1e3:.3f}" for value in (theirs, ours, chilly))
        table.add_row(str(tokens), *numbers, f"{theirs / ours:.0f}×", f"{theirs / chilly:.0f}×", str(equal))
    Console().print(table)


if __name__ == "__main__":
    main()
