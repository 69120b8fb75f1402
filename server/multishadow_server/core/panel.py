"""The fixed-horizon panel: classical tests on an epoch's counts, for people who know them. Nothing decides by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from multishadow_server.core.rollup import Family, Rollup, pair_subject
from multishadow_server.core.statistics import fixed_horizon


@dataclass(frozen=True, kw_only=True, slots=True)
class PanelPair:
    """P-values of two candidates, two-sided and unadjusted.

    Args:
        first: the earlier one in the epoch's order.
        second: the other one.
        mcnemar_exact: on which of them was bad alone.
        mcnemar_mid_p: the same, less conservative.
        paired_t: on their similarities, over requests that count for both.
    """

    first: str
    second: str
    mcnemar_exact: float
    mcnemar_mid_p: float
    paired_t: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """The tests of an epoch.

    Args:
        label: what they are worth.
        cochran_q: p-value that all candidates are bad equally often, on requests that count for everybody.
        pairs: every pair.
    """

    label: str
    cochran_q: float
    pairs: tuple[PanelPair, ...]


def build(rollup: Rollup, candidates: Sequence[str]) -> Panel:
    """The tests of an epoch, from its counts summed over all buckets."""
    tables = rollup.tables()
    histogram = {int(level): count for level, count in tables.get((Family.COMPLETE_HISTOGRAM, ""), {}).items()}
    bad = [tables.get((Family.COMPLETE_BAD, version), {}).get("", 0) for version in candidates]

    def pair(first: str, second: str) -> PanelPair:
        statuses = tables.get((Family.PAIR, pair_subject(first, second)), {})
        sums = tables.get((Family.SIMILARITY_PAIR_SUM, pair_subject(first, second)), {})
        exact, mid_p = fixed_horizon.mcnemar(statuses.get("bo", 0), statuses.get("ob", 0))
        return PanelPair(
            first=first,
            second=second,
            mcnemar_exact=exact,
            mcnemar_mid_p=mid_p,
            paired_t=fixed_horizon.paired_t(
                sum(statuses.get(both, 0) for both in ("oo", "ob", "bo", "bb")),
                first=sums.get("first", 0),
                second=sums.get("second", 0),
                first_squares=sums.get("first_squares", 0),
                second_squares=sums.get("second_squares", 0),
                products=sums.get("products", 0),
            ),
        )

    return Panel(
        label=fixed_horizon.LABEL,
        cochran_q=fixed_horizon.cochran_q(bad, histogram),
        pairs=tuple(pair(first, second) for first, second in combinations(candidates, 2)),
    )
