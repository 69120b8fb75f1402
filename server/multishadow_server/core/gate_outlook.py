"""By when a gate is likely to pass, if things go on as they did lately.

A forecast, and no promise: it takes the candidate's rates for what they were so far, and its comparisons to arrive as
they arrived in the last day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from multishadow_server.core.findings import CandidateReport, Report
from multishadow_server.core.gate_limits import GateLimits
from multishadow_server.core.gates import Awaits, Gate, GateName, GateState
from multishadow_server.core.observation import COUNTED
from multishadow_server.core.rollup import Family, Tables
from multishadow_server.core.statistics import forecast, sequences
from multishadow_server.core.statistics.ranking import Verdict

RECENT_SECONDS = 86_400.0


class Prospect(StrEnum):
    """What is to be expected of a gate that does not pass."""

    LIKELY = "likely"
    """At `at`."""
    TOO_LATE = "too_late"
    """At `at`, which is after the time box's end."""
    PEOPLE = "people"
    """When somebody does it."""
    NOT_SO = "not_so"
    """Not at the present rates: something has to change."""
    UNKNOWN = "unknown"
    """Nobody can say yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What is to be expected of one gate.

    Args:
        prospect: see Prospect.
        at: when it is likely to pass, seconds since the Unix epoch; None where nobody can say.
    """

    prospect: Prospect
    at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How a candidate gets on.

    Args:
        now: seconds since the Unix epoch.
        ends_at: end of the experiment's time box, likewise; None when it has ended: nothing more will come.
        per_second: comparisons that count, lately.
        collected_until: when the epoch will have collected for long enough; None when that is not known.
        stored: divergent comparisons that are kept.
    """

    now: float
    ends_at: float | None
    per_second: float
    collected_until: float | None
    stored: int


def comparisons_per_second(hours: Mapping[int, Tables], version: str, *, bucket_seconds: int, now: float) -> float:
    """How many comparisons of a candidate counted per second in the last day, or since the first of younger ones.

    Args:
        hours: counts of outcomes by the start of the time bucket, seconds since the Unix epoch.
        version: the candidate.
        bucket_seconds: the buckets' width.
        now: likewise.
    """
    recent = {start: tables for start, tables in hours.items() if start + bucket_seconds > now - RECENT_SECONDS}
    if not recent:
        return 0.0
    counted = sum(
        tables.get((Family.OUTCOME, version), {}).get(outcome, 0) for tables in recent.values() for outcome in COUNTED
    )
    return counted / max(now - min(recent), 1.0)


def expectation(
    gate: Gate, *, candidate: CandidateReport, report: Report, limits: GateLimits, pace: Pace
) -> Expectation | None:
    """What is to be expected of a gate; None when it passes or holds nothing up."""
    if not gate.holds_up:
        return None
    if gate.awaits is Awaits.PEOPLE and gate.state is not GateState.FAIL:
        return Expectation(prospect=Prospect.PEOPLE)
    # Of an experiment that has ended nothing is counted any more.
    if gate.state is GateState.FAIL or pace.ends_at is None:
        return Expectation(prospect=Prospect.NOT_SO)
    if gate.name is GateName.MINIMUM_DURATION:
        return _by(pace.collected_until, ends_at=pace.ends_at)
    needed = _needed(gate.name, candidate=candidate, report=report, limits=limits, pace=pace)
    if needed is not None and math.isinf(needed):
        return Expectation(prospect=Prospect.NOT_SO)
    return _by(_reached(needed, pace), ends_at=pace.ends_at)


def _reached(needed: float | None, pace: Pace) -> float | None:
    return None if needed is None or not pace.per_second else pace.now + needed / pace.per_second


def _by(at: float | None, *, ends_at: float) -> Expectation:
    if at is None:
        return Expectation(prospect=Prospect.UNKNOWN)
    return Expectation(prospect=Prospect.TOO_LATE if at > ends_at else Prospect.LIKELY, at=at)


def _needed(
    name: GateName, *, candidate: CandidateReport, report: Report, limits: GateLimits, pace: Pace
) -> float | None:
    """Further comparisons until the gate passes; inf when no number would do, None when nobody can say."""
    threshold = math.log(max(_family(report), 1) / report.alpha)
    bad = candidate.n - candidate.agreed
    match name:
        case GateName.DIVERGENCE:
            return further_below(bad=bad, n=candidate.n, limit=limits.divergence, log_threshold=threshold)
        case GateName.FAILURES:
            failed = candidate.errors + candidate.timeouts
            return further_below(bad=failed, n=candidate.n, limit=limits.failures, log_threshold=threshold)
        case GateName.BEST_SET:
            return _to_decide(candidate.version, report)
        case GateName.DIVERGENT_SAMPLES:
            missing = limits.divergent_samples - pace.stored
            return missing / (bad / candidate.n) if bad else None
        case _:
            return None


def _family(report: Report) -> int:
    """How many candidates the epoch has: k (k - 1) / 2 pairs are k candidates."""
    return round((1 + math.sqrt(1 + 8 * report.family_size)) / 2)


def _to_decide(version: str, report: Report) -> float | None:
    needed = [
        pair.requests_needed
        for pair in report.pairs
        if version in (pair.first, pair.second) and pair.verdict is Verdict.UNDECIDED
    ]
    known = [count for count in needed if count is not None]
    return max(known) if known and len(known) == len(needed) else None


def further_below(*, bad: int, n: int, limit: float, log_threshold: float) -> float | None:
    """Further comparisons until a rate is proven below a limit, at the share that was bad so far.

    Args:
        bad: how many were.
        n: of how many.
        limit: in (0, 1).
        log_threshold: as for `sequences.rate`.

    Returns:
        0 when it is proven already; inf when the share so far is not below the limit, or a thousand times as many would
        not do; None when there are too few to tell.
    """
    if n < forecast.FEWEST:
        return None
    if bad >= limit * n:
        return math.inf
    growths = forecast.FINE_GROWTHS
    _, upper = sequences.rate(bad=growths * bad, n=growths * n, log_threshold=log_threshold)
    reached = np.flatnonzero(upper < limit)
    if not len(reached):
        return math.inf
    return float(n * (growths[int(reached[0])] - 1))
