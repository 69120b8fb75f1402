"""Which stored comparisons somebody looks at, in which order, and where in it they are.

A list is walked by key, never by offset: a place is the sort's value of a comparison and its id, so that page 1,000
costs what the first does, and what is stored or dropped meanwhile shifts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from multishadow_server.core.keeping import Kept
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.segment_filter import SegmentFilter
from multishadow_server.errors import InvalidInput

LONGEST_PLACE = 80


class Sort(StrEnum):
    """The order of a list; ties go by the id of the comparison."""

    LEAST_SIMILAR = "least similar"
    NEWEST = "newest"
    OLDEST = "oldest"
    SLOWEST = "slowest"

    @property
    def descending(self) -> bool:
        """Whether the largest value comes first."""
        return self in {Sort.NEWEST, Sort.SLOWEST}


class Which(StrEnum):
    """What became of an answer."""

    ALL = "all"
    DIVERGED = "diverged"
    FAILED = "failed"
    UNCOMPARABLE = "uncomparable"
    AGREED = "agreed"

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """Those that are meant; none for all."""
        return _OUTCOMES[self]

    @property
    def kept_because(self) -> Sequence[Kept]:
        """Why comparisons with such answers are stored.

        What failed or diverged is kept for it. Of what agreed, the uniform sample alone is shown: what agreed beside
        another candidate's divergence is not like the rest.
        """
        if self in {Which.DIVERGED, Which.FAILED}:
            return (Kept.DIVERGED,)
        return (Kept.SAMPLE,) if self is Which.AGREED else tuple(Kept)


_OUTCOMES: Mapping[Which, Sequence[Outcome]] = {
    Which.ALL: (),
    Which.DIVERGED: (Outcome.DIVERGED,),
    Which.FAILED: (Outcome.ERROR, Outcome.TIMEOUT),
    Which.UNCOMPARABLE: (Outcome.UNCOMPARABLE,),
    Which.AGREED: (Outcome.OK,),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonFilter:
    """Which stored comparisons are meant: those that hold an answer that is all of this at once.

    Args:
        version: the candidate whose answer is meant; empty for any.
        which: what became of it.
        least, most: bounds of its similarity, both included; None leaves it open.
        slower: only answers that took so many seconds or longer, or timed out; None for any.
        segment: only requests of this segment.
        reviewed: only those that somebody judged, or nobody; None for both.
        since, until: when the request was received, seconds since the Unix epoch; `until` is not included.
    """

    version: str = ""
    which: Which = Which.ALL
    least: float | None = None
    most: float | None = None
    slower: float | None = None
    segment: SegmentFilter | None = None
    reviewed: bool | None = None
    since: float | None = None
    until: float | None = None


LATEST = 253_402_300_799.0
"""Seconds since the Unix epoch at the end of the year 9999, which is the last that is written."""


class Place(NamedTuple):
    """A comparison's place in a list."""

    value: float
    id: int

    def __str__(self) -> str:
        return f"{self.value!r}~{self.id}"


def place_from(text: str) -> Place:
    """The place that somebody was sent to. Raises InvalidInput when it is none."""
    value, _, number = text[:LONGEST_PLACE].partition("~")
    try:
        place = Place(float(value), int(number))
    except (ValueError, OverflowError):
        raise InvalidInput(f"after: {text[:LONGEST_PLACE]!r} is no place in a list; begin at its first page") from None
    if math.isnan(place.value) or not 0 <= place.id < 1 << 63:
        raise InvalidInput(f"after: {text[:LONGEST_PLACE]!r} is no place in a list; begin at its first page")
    return place


def place_of(sort: Sort, *, comparison_id: int, received_at: float, observations: Sequence[Observation]) -> Place:
    """Where a comparison is in that order; the database's indexes hold the same values (migration 0016)."""
    if sort is Sort.LEAST_SIMILAR:
        return Place(similarity_of(observations), comparison_id)
    return Place(latency_of(observations) if sort is Sort.SLOWEST else received_at, comparison_id)


def similarity_of(observations: Sequence[Observation]) -> float:
    """The smallest similarity of its answers that were compared; infinite where none was.

    Failures are left out, though they count as similarity 0 elsewhere: there is nothing to hold beside the live answer,
    and thousands of them would stand before the first answer that can be looked at.
    """
    compared = (each for each in observations if each.outcome in {Outcome.OK, Outcome.DIVERGED})
    return min((each.similarity for each in compared if each.similarity is not None), default=math.inf)


def latency_of(observations: Sequence[Observation]) -> float:
    """The longest of its candidates' latencies in seconds; a timeout is infinite, and minus infinity that of none."""
    return max((time for each in observations if (time := _latency(each)) is not None), default=-math.inf)


def check(which: ComparisonFilter) -> None:
    """Refuse bounds that nothing can lie between.

    Raises:
        InvalidInput: which, and what is allowed.
    """
    for name, bound in (("least", which.least), ("most", which.most)):
        # Written so that NaN fails.
        if bound is not None and not 0 <= bound <= 1:
            raise InvalidInput(f"{name}: a similarity lies between 0 and 1, not at {bound:g}")
    if which.least is not None and which.most is not None and which.least > which.most:
        raise InvalidInput(f"least: {which.least:g} is above most, {which.most:g}; nothing lies between")
    if which.slower is not None and not 0 <= which.slower < math.inf:
        raise InvalidInput(f"slower: {which.slower:g} is no latency; give milliseconds, 0 or more")
    if which.since is not None and which.until is not None and which.since >= which.until:
        raise InvalidInput("since: it is not before until; nothing lies between")


def _latency(seen: Observation) -> float | None:
    return math.inf if seen.outcome is Outcome.TIMEOUT else seen.latency
