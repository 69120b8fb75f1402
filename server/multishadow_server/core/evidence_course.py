"""How the evidence of a ranking came about: its e-values at the end of each time bucket, for pictures over time.

Evidence is a function of the counts so far, so each point is what a report at that time said of the same comparisons,
and the last one is what the report says now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from multishadow_server.core import rank_basis
from multishadow_server.core.rollup import Family, Tables
from multishadow_server.core.statistics import evidence, ranking
from multishadow_server.core.statistics.betting import Floats

MOST_POINTS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class PairEvidence:
    """What the counts so far said of two candidates; values are at the course's times.

    Args:
        first, second: their names, in the epoch's order.
        log_first_worse: ln of the evidence that the first diverges more often.
        log_second_worse: likewise for the second.
    """

    first: str
    second: str
    log_first_worse: tuple[float, ...]
    log_second_worse: tuple[float, ...]

    def log_worse(self, version: str) -> tuple[float, ...]:
        """Ln of the evidence that this one of the two is worse than the other."""
        return self.log_first_worse if version == self.first else self.log_second_worse


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceCourse:
    """Evidence over time.

    Args:
        ends: ends of time buckets, seconds since the Unix epoch; the last is the present one's.
        pairs: of the epoch's candidates, in its order.
        log_not_best: by candidate, ln of the evidence that it is not the best: who reaches `log_best_threshold` leaves
            the best set.
        log_pair_threshold: ln of the evidence that proves one direction of a pair.
        log_best_threshold: ln(1/α).
    """

    ends: tuple[int, ...]
    pairs: tuple[PairEvidence, ...]
    log_not_best: Mapping[str, tuple[float, ...]]
    log_pair_threshold: float
    log_best_threshold: float

    def against(self, leader: str) -> Mapping[str, tuple[float, ...]]:
        """By every other candidate, ln of the evidence that it is worse than this one."""
        found = {}
        for pair in self.pairs:
            if leader in (pair.first, pair.second):
                other = pair.second if pair.first == leader else pair.first
                found[other] = pair.log_worse(other)
        return found


def build(
    buckets: Mapping[int, Tables],
    *,
    versions: Sequence[str],
    bucket_seconds: int,
    alpha: float,
    family: Family = Family.PAIR,
    most_points: int = MOST_POINTS,
) -> EvidenceCourse | None:
    """The course of an epoch's evidence; None where there is none: fewer than two candidates, or nothing counted.

    Args:
        buckets: counts of pairs by the start of the time bucket, seconds since the Unix epoch, oldest first.
        versions: the epoch's candidates, in its order.
        bucket_seconds: the buckets' width.
        alpha: as for the report.
        family: what pairs are counted in: PAIR, or LABEL_PAIR where labels rank.
        most_points: evidence is worked out at so many of the buckets' ends, evenly spread; the last is always one.
    """
    if len(versions) < 2 or not buckets:
        return None
    starts = list(buckets)
    only = np.array([rank_basis.discordance(tables, versions, family)[0] for tables in buckets.values()])
    shown = _spread(len(starts), most_points)
    so_far: Floats = np.cumsum(only, axis=0)[shown]
    log_worse = evidence.log_evidence(so_far, so_far.transpose(0, 2, 1))
    return EvidenceCourse(
        ends=tuple(starts[place] + bucket_seconds for place in shown.tolist()),
        pairs=tuple(_pairs(versions, log_worse)),
        log_not_best=_not_best(versions, log_worse),
        log_pair_threshold=float(np.log(ranking.pair_threshold(len(versions), alpha))),
        log_best_threshold=float(-np.log(alpha)),
    )


def _spread(size: int, most: int) -> NDArray[np.int_]:
    """At most so many places of a sequence, evenly spread, both ends among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))


def _pairs(versions: Sequence[str], log_worse: Floats) -> list[PairEvidence]:
    return [
        PairEvidence(
            first=first,
            second=second,
            log_first_worse=tuple(log_worse[:, i, j].tolist()),
            log_second_worse=tuple(log_worse[:, j, i].tolist()),
        )
        for i, first in enumerate(versions)
        for j, second in enumerate(versions)
        if i < j
    ]


def _not_best(versions: Sequence[str], log_worse: Floats) -> dict[str, tuple[float, ...]]:
    """The mean over the others, as `ranking.best_set` takes it."""
    k = len(versions)
    others = np.where(np.eye(k, dtype=bool), -np.inf, log_worse)
    means = logsumexp(others, axis=2) - np.log(k - 1)
    return {version: tuple(means[:, place].tolist()) for place, version in enumerate(versions)}
