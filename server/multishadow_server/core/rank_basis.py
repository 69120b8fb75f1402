"""What candidates are ranked by: how often they diverge, or how often they are wrong by labels.

The basis is declared when the experiment starts and never changes within it; whatever is proven is proven on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from multishadow_server.core.labels import Mark
from multishadow_server.core.observation import BAD, Outcome
from multishadow_server.core.rollup import Family, pair_subject
from multishadow_server.core.statistics.betting import Floats

_Tables = Mapping[tuple[str, str], Mapping[str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RankBasis:
    """Counts of k candidates, in the epoch's order.

    Args:
        n: requests that count for each, shape (k,).
        bad: of these, those on which it was bad.
        only: [i, j] counts requests on which i was bad and j was not, shape (k, k).
        alike: [i, j] counts requests on which both were bad or both were not.
    """

    n: Floats
    bad: Floats
    only: Floats
    alike: Floats


def by_agreement(tables: _Tables, versions: Sequence[str]) -> RankBasis:
    """Bad is diverged, error or timeout."""
    bad, n = divergence(tables, versions)
    only, alike = discordance(tables, versions, Family.PAIR)
    return RankBasis(n=n, bad=bad, only=only, alike=alike)


def divergence(tables: _Tables, versions: Sequence[str]) -> tuple[Floats, Floats]:
    """`bad` and `n` of a RankBasis by agreement."""
    outcomes = [tables.get((Family.OUTCOME, version), {}) for version in versions]
    agreed = np.array([counts.get(Outcome.OK, 0) for counts in outcomes], dtype=float)
    bad = np.array([bad_of(counts) for counts in outcomes], dtype=float)
    return bad, agreed + bad


def bad_of(outcomes: Mapping[str, int]) -> int:
    """How many of a version's observations were bad, from its counts by outcome."""
    return sum(outcomes.get(outcome, 0) for outcome in BAD)


def by_labels(tables: _Tables, versions: Sequence[str]) -> RankBasis:
    """Bad is wrong by the label; `tables` are of cohorts older than the label delay."""
    marks = [tables.get((Family.LABEL, version), {}) for version in versions]
    right = np.array([counts.get(Mark.RIGHT, 0) for counts in marks], dtype=float)
    wrong = np.array([counts.get(Mark.WRONG, 0) for counts in marks], dtype=float)
    only, alike = discordance(tables, versions, Family.LABEL_PAIR)
    return RankBasis(n=right + wrong, bad=wrong, only=only, alike=alike)


def discordance(tables: _Tables, versions: Sequence[str], family: Family) -> tuple[Floats, Floats]:
    """`only` and `alike` of a RankBasis, from counts of pairs."""
    k = len(versions)
    only, alike = np.zeros((k, k)), np.zeros((k, k))
    for (i, first), (j, second) in combinations(enumerate(versions), 2):
        statuses = tables.get((family, pair_subject(first, second)), {})
        only[i, j], only[j, i] = statuses.get("bo", 0), statuses.get("ob", 0)
        alike[i, j] = alike[j, i] = statuses.get("oo", 0) + statuses.get("bb", 0)
    return only, alike
