"""What people say who looked at two answers side by side: labels of their own kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.findings import ReviewCounts
from multishadow_server.core.labels import difference_cell, permille_of
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup

# What a promotion asks people to have looked at: so many divergent answers, the least similar ones.
TOP = 10


class ReviewVerdict(StrEnum):
    """Which of two answers to the same request is better."""

    CANDIDATE_BETTER = "candidate better"
    LIVE_BETTER = "live better"
    BOTH_FINE = "both fine"
    BOTH_WRONG = "both wrong"


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """One person's verdict on one candidate's answer; the last one of a candidate and comparison counts."""

    version: str
    verdict: ReviewVerdict
    by: str
    at: float


def can_be_reviewed(seen: Observation) -> bool:
    """Whether there are two answers to hold side by side."""
    return seen.outcome in {Outcome.OK, Outcome.DIVERGED}


def contribution(seen: Observation, verdict: ReviewVerdict) -> Rollup:
    """What one verdict adds to its bucket's counts."""
    cells = {Cell(Family.REVIEW, seen.version, verdict): 1}
    # Two wrong answers may be the same or not: they say nothing about a difference.
    if verdict is not ReviewVerdict.BOTH_WRONG and seen.similarity is not None:
        agreed, permille = seen.outcome is Outcome.OK, permille_of(seen.similarity)
        real = verdict is not ReviewVerdict.BOTH_FINE
        cells[difference_cell(seen.version, agreed=agreed, permille=permille, real=real)] = 1
    return Rollup(cells)


def counted(tables: Mapping[tuple[str, str], Mapping[str, int]], version: str) -> ReviewCounts:
    """The verdicts on a candidate in an epoch's counts."""
    verdicts = tables.get((Family.REVIEW, version), {})
    return ReviewCounts(
        version=version,
        candidate_better=verdicts.get(ReviewVerdict.CANDIDATE_BETTER, 0),
        live_better=verdicts.get(ReviewVerdict.LIVE_BETTER, 0),
        both_fine=verdicts.get(ReviewVerdict.BOTH_FINE, 0),
        both_wrong=verdicts.get(ReviewVerdict.BOTH_WRONG, 0),
    )
