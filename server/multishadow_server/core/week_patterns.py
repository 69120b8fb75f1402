"""Whether divergence is random or systematic: what the tests found that look for a pattern, and how sure that is.

There is no test for "random": what no test finds a pattern in is said to be without one, with what was looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core import segment_report
from multishadow_server.core.advice import listed
from multishadow_server.core.diagnosis import Drift
from multishadow_server.core.findings import CandidateReport, PairReport
from multishadow_server.core.segment_report import Correlation, Segment, SegmentReport
from multishadow_server.core.statistics.drift import LOG_ALARM
from multishadow_server.core.week_counts import Categories
from multishadow_server.core.week_words import minute, per_cent

# With fewer bad ones there is no pattern to be seen yet.
FEWEST_BAD = 20
MOST_SHOWN = 5
# From this share of failed calls on, what is bad is that it fails, and not how it answers.
FAILING_SHARE = 0.9


class Nature(StrEnum):
    """What the divergence looks like.

    `NONE`: nothing diverged. `FAILING`: nearly all of it is calls that failed. `SYSTEMATIC`: it keeps to certain kinds
    of request. `CHANGING`: it is not the same at all times. `CHANCE`: the live version differs from itself as often.
    `NO_PATTERN`: no test found one. `TOO_LITTLE`: there is too little to tell.
    """

    NONE = "none"
    FAILING = "failing calls"
    SYSTEMATIC = "systematic"
    CHANGING = "changing over time"
    CHANCE = "as live itself"
    NO_PATTERN = "no pattern found"
    TOO_LITTLE = "too little to tell"


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One test that looked for a pattern.

    Args:
        test: what it is called, and where it stands.
        found: whether it found one; None when it had too little to look at.
        said: what it found, with its numbers.
    """

    test: str
    found: bool | None
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """What a candidate's divergence looks like, in the epoch so far.

    Args:
        nature: in a word.
        said: in a sentence for everybody.
        looks: every test that looked, whatever it found.
        segments: the kinds of request with the strongest evidence; alerts first.
        correlations: features that go with divergence, exploratory.
        finished_buckets: time buckets that the evidence on segments is from.
    """

    nature: Nature
    said: str
    looks: tuple[Look, ...]
    segments: tuple[Segment, ...]
    correlations: tuple[Correlation, ...]
    finished_buckets: int


def find(
    candidate: CandidateReport,
    week: Categories,
    *,
    live: str,
    segments: SegmentReport,
    drift: Drift | None,
    drift_evidence: float,
    pairs: Sequence[PairReport],
) -> Pattern:
    """What a candidate's divergence looks like.

    Args:
        candidate: over the epoch so far.
        week: what became of its copies in the week.
        live: the live version.
        segments: the candidate by kinds of request, likewise.
        drift: the first change of its rate that rang; None without.
        drift_evidence: ln of the strongest evidence that there was; -inf before the second hour.
        pairs: of all candidates.
    """
    alerts = [segment for segment in segments.segments if segment.alert]
    nature = _nature(candidate, week, alerts, drift)
    own = [pair for pair in pairs if candidate.version in (pair.first, pair.second)]
    return Pattern(
        nature=nature,
        said=_said(nature, candidate, live, alerts, drift),
        looks=(
            _on_segments(segments, alerts),
            _on_drift(drift, drift_evidence),
            _on_bursts(own),
            _on_noise(candidate, live),
            _on_the_rate(candidate),
        ),
        segments=tuple(segments.segments[:MOST_SHOWN]),
        correlations=tuple(segments.correlations[:MOST_SHOWN]),
        finished_buckets=segments.finished_buckets,
    )


def _nature(candidate: CandidateReport, week: Categories, alerts: Sequence[Segment], drift: Drift | None) -> Nature:
    failed, bad = candidate.errors + candidate.timeouts, candidate.diverged + candidate.errors + candidate.timeouts
    noise = candidate.over_noise
    # The first that holds. What failed in the week must not be called a kind of request, nor a change of its answers.
    natures = (
        (_mostly(failed, bad) or _mostly(week.failed, week.bad), Nature.FAILING),
        (bool(alerts), Nature.SYSTEMATIC),
        (drift is not None or candidate.rate_moved, Nature.CHANGING),
        (bool(candidate.n) and not bad, Nature.NONE),
        (bad < FEWEST_BAD, Nature.TOO_LITTLE),
        (noise is not None and noise.lower <= 0 <= noise.upper, Nature.CHANCE),
    )
    return next((nature for holds, nature in natures if holds), Nature.NO_PATTERN)


def _mostly(failed: int, bad: int) -> bool:
    return bad >= FEWEST_BAD and failed >= FAILING_SHARE * bad


def _said(nature: Nature, candidate: CandidateReport, live: str, alerts: Sequence[Segment], drift: Drift | None) -> str:
    version = candidate.version
    worse = [each for each in alerts if each.rest_rate is not None and each.rate.estimate > each.rest_rate]
    kinds = listed(f"{each.feature} = {each.level}" for each in (worse or alerts)[:2])
    when = "" if drift is None else f", first seen {minute(drift.at)}"
    sentences = {
        Nature.NONE: f"{version} never diverged.",
        Nature.FAILING: (
            f"Systematic: nearly all of {version}'s divergence is calls that failed, and no different answers."
        ),
        Nature.SYSTEMATIC: (
            f"Systematic: {version} diverges {'more' if worse else 'less'} often than elsewhere where {kinds}."
        ),
        Nature.CHANGING: f"Systematic in time: how often {version} diverges has changed within the epoch{when}.",
        Nature.CHANCE: (
            f"Random, as far as can be told: {version} differs from {live} about as often as {live} differs from "
            "itself when it is asked twice."
        ),
        Nature.NO_PATTERN: (
            f"Random, as far as can be told: no kind of request, no hour and no burst holds more of {version}'s "
            "divergence than chance would put there."
        ),
        Nature.TOO_LITTLE: (f"There is too little divergence of {version} to tell whether it is random or systematic."),
    }
    return sentences[nature]


def _on_segments(report: SegmentReport, alerts: Sequence[Segment]) -> Look:
    test = f"segments: {segment_report.TEST_NAME}, α = {report.alpha:g}"
    if not report.segments or not report.finished_buckets:
        return Look(test=test, found=None, said="no time bucket is finished yet")
    if not alerts:
        return Look(
            test=test,
            found=False,
            said=f"none of {len(report.segments):,} kinds of request stands out, in {report.finished_buckets:,} time "
            "buckets",
        )
    strongest = max(alerts, key=lambda each: each.log_evidence)
    return Look(
        test=test,
        found=True,
        said=f"{len(alerts):,} of {len(report.segments):,} kinds stand out; strongest {strongest.feature} = "
        f"{strongest.level}: {strongest.diverged + strongest.failed:,} of {strongest.n:,} bad "
        f"({per_cent(strongest.rate.estimate)} beside {per_cent(strongest.rest_rate)}), ln evidence "
        f"{strongest.log_evidence:.1f}",
    )


def _on_drift(drift: Drift | None, evidence: float) -> Look:
    test = "drift: e-detector over hours, both ways, alarm at 2160 (ln 7.7)"
    if drift is not None:
        way = "rose" if drift.alarm.rising else "fell"
        return Look(
            test=test,
            found=True,
            said=f"the rate {way} from {per_cent(drift.alarm.before)} to {per_cent(drift.alarm.then)} at "
            f"{minute(drift.at)}; ln evidence {evidence:.1f}",
        )
    if not math.isfinite(evidence):
        return Look(test=test, found=None, said="no second hour yet")
    return Look(test=test, found=False, said=f"strongest ln evidence {evidence:.1f}, of {LOG_ALARM:.1f} that ring")


def _on_bursts(pairs: Sequence[PairReport]) -> Look:
    test = "bursts: variance of the difference of two candidates over buckets (Cochran's homogeneity)"
    measured = [pair for pair in pairs if pair.dispersion is not None]
    if not measured:
        return Look(test=test, found=None, said="too few requests on which two candidates differ, or one candidate")
    worst = max(measured, key=lambda pair: pair.dispersion or 0.0)
    return Look(
        test=test,
        found=any(pair.overdispersed for pair in measured),
        said=f"{worst.dispersion:.2g} times the variance of independent requests, of {worst.first} and {worst.second}",
    )


def _on_noise(candidate: CandidateReport, live: str) -> Look:
    test = "noise floor: paired confidence sequence of the candidate's rate minus live's own"
    noise = candidate.over_noise
    if noise is None:
        return Look(test=test, found=None, said=f"not measured; `--noise-floor` asks {live} twice")
    said = f"{100 * noise.estimate:+.2g} percentage points ({100 * noise.lower:+.2g} to {100 * noise.upper:+.2g})"
    return Look(test=test, found=noise.lower > 0 or noise.upper < 0, said=f"{said} beside {live} asked twice")


def _on_the_rate(candidate: CandidateReport) -> Look:
    test = "running interval: has the rate left what was proven of it before?"
    if not candidate.n:
        return Look(test=test, found=None, said="nothing was compared")
    return Look(test=test, found=candidate.rate_moved, said="it has" if candidate.rate_moved else "it has not")
