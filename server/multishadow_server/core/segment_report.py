"""On which kinds of request a candidate diverges more, or less, often than on the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from multishadow_server.core import segments
from multishadow_server.core.findings import Interval
from multishadow_server.core.rollup import Family, Rollup, Tables
from multishadow_server.core.statistics import association, sequences
from multishadow_server.core.statistics.betting import Floats

FAMILIES = (Family.SEGMENT, Family.SEGMENT_DIVERGED, Family.SEGMENT_FAILED)
TEST_NAME = "segment against rest by time bucket, likelihood ratios multiplied; e-BH over all segments"
DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Requests of one level of one feature.

    Args:
        feature, level: what they have in common.
        n: comparisons of them that count.
        diverged, failed: the bad ones among them.
        rate: how often they are bad; joint over all segments.
        rest_rate: how often the other requests are; None when there are none.
        log_evidence: ln of the evidence that the two differ, from finished time buckets alone.
        alert: whether e-BH makes it a discovery.
        p_exact: Fisher's exact test over everything so far; valid for one look only.
        p_adjusted: by Benjamini & Hochberg over all segments.
    """

    feature: str
    level: str
    n: int
    diverged: int
    failed: int
    rate: Interval
    rest_rate: float | None
    log_evidence: float
    alert: bool
    p_exact: float
    p_adjusted: float

    @property
    def is_worse(self) -> bool:
        """Whether it is proven that they are bad more often than the others."""
        return self.alert and self.rest_rate is not None and self.rate.estimate > self.rest_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """How an ordered feature goes with being bad, over all comparisons.

    Args:
        feature: it.
        n: comparisons that have it.
        rho: Spearman's correlation, with its interval at 1 - α over all features, for one look.
        p_raw: two-sided, for this feature alone.
        p_adjusted: by Benjamini & Hochberg over all ordered features.
    """

    feature: str
    n: int
    rho: Interval
    p_raw: float
    p_adjusted: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentReport:
    """One candidate by kinds of request.

    Args:
        version: the candidate.
        n, bad: its comparisons that count, and the bad ones.
        segments: alerts first, then by p; every level that was seen.
        correlations: by p.
        alpha: largest expected share of false alerts; also of false exploratory findings.
        test_name: what alerts are tested with.
        finished_buckets: time buckets that evidence comes from; the newest is still being filled.
    """

    version: str
    n: int
    bad: int
    segments: tuple[Segment, ...]
    correlations: tuple[Correlation, ...]
    alpha: float
    test_name: str
    finished_buckets: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counts:
    """Of one candidate: arrays of shape (buckets, levels), and (buckets, 1) for all requests."""

    n: Floats
    diverged: Floats
    failed: Floats
    all_n: Floats
    all_bad: Floats

    @property
    def bad(self) -> Floats:
        return self.diverged + self.failed


def build(buckets: Mapping[int, Rollup], *, version: str, alpha: float) -> SegmentReport:
    """Report on a candidate.

    Args:
        buckets: an epoch's counts of `FAMILIES`, by the bucket's start in seconds since the Unix epoch, in its order.
        version: the candidate.
        alpha: in (0, 1).
    """
    return of_tables({start: rollup.tables() for start, rollup in buckets.items()}, version=version, alpha=alpha)


def of_tables(buckets: Mapping[int, Tables], *, version: str, alpha: float) -> SegmentReport:
    """The same of counts that were sorted already: for several candidates of one epoch."""
    starts = list(buckets)
    tables = list(buckets.values())
    levels = sorted({level for table in tables for level in table.get((Family.SEGMENT, version), {})})
    counts = _counts(tables, version, levels)
    total_n, total_bad = counts.all_n.sum(), counts.all_bad.sum()
    return SegmentReport(
        version=version,
        n=int(total_n),
        bad=int(total_bad),
        segments=tuple(_segments(levels, starts, counts, alpha)),
        correlations=tuple(_correlations(levels, counts, alpha)),
        alpha=alpha,
        test_name=TEST_NAME,
        finished_buckets=max(len(starts) - 1, 0),
    )


def _counts(
    tables: Sequence[Mapping[tuple[str, str], Mapping[str, int]]], version: str, levels: Sequence[str]
) -> _Counts:
    def array(family: Family) -> Floats:
        rows = [table.get((family, version), {}) for table in tables]
        return np.array([[row.get(level, 0) for level in levels] for row in rows], dtype=float).reshape(
            len(tables), len(levels)
        )

    n, diverged, failed = (array(family) for family in FAMILIES)
    # Every comparison has an hour and a size, so the levels of one of them are all of it.
    of_all = np.array([segments.feature_of(level) == segments.HOUR for level in levels], dtype=bool)
    return _Counts(
        n=n,
        diverged=diverged,
        failed=failed,
        all_n=n[:, of_all].sum(axis=1, keepdims=True),
        all_bad=(diverged + failed)[:, of_all].sum(axis=1, keepdims=True),
    )


def _segments(levels: Sequence[str], starts: Sequence[int], counts: _Counts, alpha: float) -> list[Segment]:
    if not levels:
        return []
    n, bad = counts.n.sum(axis=0), counts.bad.sum(axis=0)
    rest_n, rest_bad = counts.all_n.sum() - n, counts.all_bad.sum() - bad
    evidence = _evidence(levels, starts, counts)
    alerts = association.e_bh(evidence, alpha=alpha)
    p = association.exact_p(bad, n, rest_bad=rest_bad, rest_n=rest_n)
    adjusted = association.bh(p)
    lower, upper = sequences.rate(bad=bad, n=n, log_threshold=math.log(len(levels) / alpha))
    diverged, failed = counts.diverged.sum(axis=0), counts.failed.sum(axis=0)
    order = np.lexsort((p, -evidence, ~alerts)) if alerts.any() else np.lexsort((-evidence, p))
    return [
        Segment(
            feature=segments.feature_of(levels[place]),
            level=segments.value_of(levels[place]),
            n=int(n[place]),
            diverged=int(diverged[place]),
            failed=int(failed[place]),
            rate=Interval(estimate=float(bad[place] / n[place]), lower=float(lower[place]), upper=float(upper[place])),
            rest_rate=float(rest_bad[place] / rest_n[place]) if rest_n[place] else None,
            log_evidence=float(evidence[place]),
            alert=bool(alerts[place]),
            p_exact=float(p[place]),
            p_adjusted=float(adjusted[place]),
        )
        for place in map(int, order)
    ]


def _evidence(levels: Sequence[str], starts: Sequence[int], counts: _Counts) -> Floats:
    """By level. A bucket of an hour or less has one hour only, so hours are compared within whole days."""
    by_bucket = _blocks(starts, lambda start: start)
    by_day = _blocks(starts, lambda start: start // DAY_SECONDS)
    hours = np.array([segments.feature_of(level) == segments.HOUR for level in levels])
    return np.where(hours, _evidence_in(by_day, counts), _evidence_in(by_bucket, counts))


def _blocks(starts: Sequence[int], block_of: Callable[[int], int]) -> Floats:
    """Sums buckets to blocks, shape (finished blocks, buckets); the newest block is still being filled."""
    owners = [block_of(start) for start in starts]
    finished = sorted(set(owners))[:-1]
    return np.array([[float(owner == block) for owner in owners] for block in finished]).reshape(
        len(finished), len(starts)
    )


def _evidence_in(blocks: Floats, counts: _Counts) -> Floats:
    n, bad = blocks @ counts.n, blocks @ counts.bad
    all_n, all_bad = blocks @ counts.all_n, blocks @ counts.all_bad
    return association.log_evidence(bad, n, rest_bad=all_bad - bad, rest_n=all_n - n)


def _correlations(levels: Sequence[str], counts: _Counts, alpha: float) -> list[Correlation]:
    n, bad = counts.n.sum(axis=0), counts.bad.sum(axis=0)
    ordered: dict[str, list[tuple[float, int]]] = {}
    for place, level in enumerate(levels):
        at = segments.place_of(level)
        if at is not None:
            ordered.setdefault(segments.feature_of(level), []).append((at, place))
    # One level does not vary; nothing goes with it.
    features = {feature: [place for _, place in sorted(found)] for feature, found in ordered.items() if len(found) > 1}
    if not features:
        return []
    found = [association.rank_correlation(bad[places], n[places]) for places in features.values()]
    rho, error = (np.array(column) for column in zip(*found, strict=True))
    p = 2 * ndtr(-np.abs(np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))) / error)
    adjusted = association.bh(p)
    # Sidak-free: α is shared out evenly, so that all intervals hold together.
    reach = -ndtri(alpha / (2 * len(features))) * error
    middle = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    report = [
        Correlation(
            feature=feature,
            n=int(n[places].sum()),
            rho=Interval(
                estimate=float(rho[at]),
                lower=float(np.tanh(middle[at] - reach[at])),
                upper=float(np.tanh(middle[at] + reach[at])),
            ),
            p_raw=float(p[at]),
            p_adjusted=float(adjusted[at]),
        )
        for at, (feature, places) in enumerate(features.items())
    ]
    return sorted(report, key=lambda correlation: (correlation.p_raw, correlation.feature))
