"""Classical tests, valid for one look only: at a number of requests that was fixed before anybody looked.

They are here because people know them and other tools print them. Looked at repeatedly, they claim falsely far more
often than α says; nothing in multishadow decides by them. Sources: Fagerland, Lydersen & Laake, "The McNemar test for
binary matched-pairs data" (2013); Cochran, "The comparison of percentages in matched samples" (1950).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.special import betainc, chdtrc, stdtr

LABEL = "valid for one look only"


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """Two-sided p-values of the exact McNemar test and of its mid-p variant; 1 without discordant pairs."""
    fewer, discordant = min(only_first, only_second), only_first + only_second
    if not discordant:
        return 1.0, 1.0
    tail = _fair_coin(fewer, discordant)
    at = tail - _fair_coin(fewer - 1, discordant)
    return min(1.0, 2 * tail), min(1.0, 2 * tail - at)


def _fair_coin(heads: int, tosses: int) -> float:
    """Chance of at most so many heads: I½(tosses - heads, heads + 1)."""
    return float(betainc(tosses - heads, heads + 1, 0.5)) if heads >= 0 else 0.0


def cochran_q(bad: Sequence[int], histogram: Mapping[int, int]) -> float:
    """P-value of Cochran's Q: that all candidates are bad equally often.

    Args:
        bad: how often each candidate was bad, among requests that count for everybody.
        histogram: of these requests, how many had that many bad candidates.

    Returns:
        1 when no request told candidates apart, or there are fewer than two.
    """
    k, total = len(bad), sum(bad)
    within = sum(number * (k - number) * count for number, count in histogram.items())
    if k < 2 or not within:
        return 1.0
    q = (k - 1) * (k * sum(count * count for count in bad) - total * total) / within
    return float(chdtrc(k - 1, q))


def paired_t(n: int, *, first: int, second: int, first_squares: int, second_squares: int, products: int) -> float:
    """Two-sided p-value of the paired t-test on two columns of scores.

    Args:
        n: rows.
        first: Σx, a whole number like the others, so that nothing is lost however many rows there are.
        second: Σy.
        first_squares: Σx².
        second_squares: Σy².
        products: Σxy.

    Returns:
        1 for equal columns or fewer than two rows; 0 when all rows differ by the same amount.
    """
    difference = first - second
    # n times the sum of squared deviations of x - y, exactly.
    spread = n * (first_squares + second_squares - 2 * products) - difference * difference
    if n < 2 or not difference:
        return 1.0
    if spread <= 0:
        return 0.0
    return float(2 * stdtr(n - 1, -abs(difference) * math.sqrt((n - 1) / spread)))
