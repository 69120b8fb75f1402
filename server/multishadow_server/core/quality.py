"""The quality axis of a report: who was right, by labels. It says nothing about agreement, nor agreement about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from multishadow_server.core.findings import CandidateQuality, Interval, Quality
from multishadow_server.core.labels import Mark
from multishadow_server.core.rollup import Family, Rollup, pair_subject
from multishadow_server.core.statistics import sequences
from multishadow_server.core.statistics.non_inferiority import LabelledPair

_Tables = Mapping[tuple[str, str], Mapping[str, int]]


def assess(
    cohorts: Rollup, *, labelled: int, live: str, candidates: Sequence[str], alpha: float, delay: float, margin: float
) -> Quality:
    """Who was right, in an epoch.

    Args:
        cohorts: label counts of time buckets that ended longer ago than the label delay: labels that come quickly are
            not like those that come late, so younger buckets would favour somebody.
        labelled: requests with a label in all buckets.
        live: the epoch's live version.
        candidates: all of the epoch's, in its order.
        alpha: chance that a claim is ever wrong: once over all accuracies, once over all differences, once over all
            claims of "not worse".
        delay: seconds.
        margin: a candidate whose accuracy is less than this below live's is not worse.
    """
    tables = cohorts.tables()
    counted = sum(tables.get((Family.LABEL, live), {}).values())
    live_right, live_n = _judged(tables, live)
    return Quality(
        labelled=counted,
        too_young=labelled - counted,
        delay_seconds=round(delay),
        live_n=live_n,
        live_right=live_right,
        live_accuracy=_accuracy(live_right, live_n, np.log((len(candidates) + 1) / alpha)),
        candidates=tuple(
            _candidate(tables, live, each, family=len(candidates), alpha=alpha, margin=margin) for each in candidates
        ),
        margin=margin,
        evidence_threshold=len(candidates) / alpha,
    )


def labelled_requests(rollup: Rollup, live: str) -> int:
    """Requests with a label, in all of an epoch's counts."""
    return sum(rollup.tables().get((Family.LABEL, live), {}).values())


def labelled_pair(tables: _Tables, live: str, candidate: str) -> LabelledPair:
    """A candidate beside the live version, on the labelled requests on which both can be judged."""
    marks = tables.get((Family.LABEL_PAIR, pair_subject(live, candidate)), {})
    return LabelledPair(
        only_candidate_right=marks.get(Mark.WRONG + Mark.RIGHT, 0),
        only_live_right=marks.get(Mark.RIGHT + Mark.WRONG, 0),
        alike=marks.get(Mark.RIGHT + Mark.RIGHT, 0) + marks.get(Mark.WRONG + Mark.WRONG, 0),
    )


def _candidate(
    tables: _Tables, live: str, version: str, *, family: int, alpha: float, margin: float
) -> CandidateQuality:
    pair = labelled_pair(tables, live, version)
    both_right = tables.get((Family.LABEL_PAIR, pair_subject(live, version)), {}).get(Mark.RIGHT + Mark.RIGHT, 0)
    right = both_right + pair.only_candidate_right
    evidence = pair.log_not_worse(margin)
    return CandidateQuality(
        version=version,
        n=pair.n,
        right=right,
        live_right=both_right + pair.only_live_right,
        only_right=pair.only_candidate_right,
        only_live_right=pair.only_live_right,
        accuracy=_accuracy(right, pair.n, np.log((family + 1) / alpha)),
        difference=_difference(pair, np.log(2 * family / alpha)),
        log_evidence_not_worse=evidence,
        not_worse=bool(evidence >= np.log(family / alpha)),
        unjudged=tables.get((Family.LABEL, version), {}).get(Mark.UNJUDGED, 0),
    )


def _judged(tables: _Tables, version: str) -> tuple[int, int]:
    """How often it was right, and how often it could be judged."""
    marks = tables.get((Family.LABEL, version), {})
    right = marks.get(Mark.RIGHT, 0)
    return right, right + marks.get(Mark.WRONG, 0)


def _accuracy(right: int, n: int, log_threshold: float) -> Interval | None:
    if not n:
        return None
    wrong, total = np.array([float(n - right)]), np.array([float(n)])
    lower, upper = sequences.rate(bad=wrong, n=total, log_threshold=log_threshold)
    return Interval(estimate=right / n, lower=1 - float(upper[0]), upper=1 - float(lower[0]))


def _difference(pair: LabelledPair, log_threshold: float) -> Interval | None:
    if not pair.n:
        return None
    lower, upper = sequences.paired(
        only_first=np.array([float(pair.only_candidate_right)]),
        only_second=np.array([float(pair.only_live_right)]),
        neither_or_both=np.array([float(pair.alike)]),
        log_threshold=log_threshold,
    )
    return Interval(estimate=pair.difference, lower=float(lower[0]), upper=float(upper[0]))
