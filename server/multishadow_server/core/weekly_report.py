"""The weekly report on a model: a frozen value made of counts, which renderers show as they like.

Everything here comes from rollups, so a week of a million comparisons costs what one of ten thousand does; only the
few worst comparisons are read one by one, by whoever calls `build`. Epochs are told apart and never added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from multishadow_server.core import diagnosis, segment_report, week_counts, week_patterns, week_summary
from multishadow_server.core.cost import Estimate
from multishadow_server.core.diagnosis import Diagnosis, Drift, Suspect
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.core.findings import CandidateReport, Report
from multishadow_server.core.gates import Review
from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.core.rollup import Family, Rollup
from multishadow_server.core.segment_report import SegmentReport
from multishadow_server.core.statistics.drift import first_alarm
from multishadow_server.core.week_counts import Bucket, Categories, Day, Rate
from multishadow_server.core.week_patterns import Pattern
from multishadow_server.core.weeks import Week

HOUR = 3_600
MOST_CASES = 5
RATE_FORMULA = (
    "confidence sequence of a rate: p is refuted when B(½+S, 9½+n−S) / (B(½, 9½) p^S (1−p)^(n−S)) ≥ k/α; D = 1 for "
    "diverged, error and timeout (intention to treat)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One stored comparison in which a candidate diverged, as it is stored (redacted where the model says so).

    Args:
        id: of the comparison.
        request_id: of the request.
        received_at: seconds since the Unix epoch.
        distance: 1 - similarity.
        detail: what differed, in words; may be empty.
        verdict: what a person said of it; None until somebody looked.
    """

    id: int
    request_id: str
    received_at: float
    distance: float
    detail: str
    verdict: ReviewVerdict | None

    @property
    def command(self) -> str:
        """How to look at it."""
        return f"shadowctl review show {self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateWeek:
    """One candidate in the week.

    Args:
        version: its name.
        categories: what became of its copies; they add up.
        reasons: the same by reason, for errors, drops and what cannot be compared.
        rate: of the week.
        before: of the week before, in the same epoch; None where the epoch is younger.
        proven_change: whether the two intervals do not meet.
        days: the rate by day.
        standing: over the epoch up to the end of the week: what gates and advice look at.
        review: what its gates say.
        pattern: whether it is random or systematic.
        cases: stored comparisons of the week in which it diverged, the largest distance first.
    """

    version: str
    categories: Categories
    reasons: Mapping[str, Mapping[str, int]]
    rate: Rate
    before: Rate | None
    proven_change: bool
    days: tuple[Day, ...]
    standing: CandidateReport
    review: Review | None
    pattern: Pattern
    cases: tuple[Case, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochWeek:
    """One epoch of one experiment in the week.

    Args:
        experiment: whose it is.
        epoch: with its revisions and its comparator.
        captures: sampled requests of the week that live answered.
        live_failures: sampled requests that live itself failed; they count for nobody.
        report: over the epoch up to the end of the week.
        candidates: in order of rank.
        diagnoses: what is wrong, the most fundamental first.
        cost: what the experiment costs; None where it has ended.
    """

    experiment: Experiment
    epoch: Epoch
    captures: int
    live_failures: int
    report: Report
    candidates: tuple[CandidateWeek, ...]
    diagnoses: tuple[Diagnosis, ...]
    cost: Estimate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveWeek:
    """Requests of callers in the week, which shadows have no part in.

    Args:
        requests: roughly: routers tell totals from time to time.
        seconds: of the week in which routers counted.
    """

    requests: int
    seconds: float

    @property
    def per_second(self) -> float:
        """On average."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class WeeklyReport:
    """A model's week.

    Args:
        model: its name.
        week: the week.
        built_at: seconds since the Unix epoch.
        summary: one paragraph for everybody.
        headline: the same in a few words.
        live: what callers asked.
        epochs: every epoch that collected anything in the week, or was open in it; the newest first.
        formula: what intervals are worked out by.
    """

    model: str
    week: Week
    built_at: float
    headline: str
    summary: str
    live: LiveWeek
    epochs: tuple[EpochWeek, ...]
    formula: str = RATE_FORMULA

    @property
    def partial(self) -> bool:
        """Whether the week was not over."""
        return self.built_at < self.week.ends_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What is read of one epoch.

    Args:
        experiment, epoch: which.
        rollups: its counts of `week_counts.FAMILIES` by time bucket, up to the end of the week.
        report: on all candidates, over the same time.
        reviews: what the gates say of them then.
        cases: by candidate.
        cost: what the experiment costs; None where it has ended.
    """

    experiment: Experiment
    epoch: Epoch
    rollups: Mapping[int, Rollup]
    report: Report
    reviews: Sequence[Review] = ()
    cases: Mapping[str, Sequence[Case]]
    cost: Estimate | None = None


def build(*, model: str, week: Week, materials: Sequence[Material], live: LiveWeek, now: float) -> WeeklyReport:
    """Report on a model's week.

    Args:
        model: its name.
        week: the week.
        materials: every epoch that was open in it, the newest first.
        live: what callers asked.
        now: seconds since the Unix epoch.
    """
    epochs = tuple(_epoch(material, week) for material in materials)
    partial = now < week.ends_at
    return WeeklyReport(
        model=model,
        week=week,
        built_at=now,
        headline=week_summary.headline(epochs),
        summary=week_summary.paragraph(model, week, epochs, live, partial=partial),
        live=live,
        epochs=epochs,
    )


def without_traffic(report: WeeklyReport) -> WeeklyReport:
    """The report without what came from single requests: it is kept for good, and they may have to be erased."""

    def candidate(of: CandidateWeek) -> CandidateWeek:
        return replace(of, cases=tuple(replace(case, request_id="", detail="") for case in of.cases))

    return replace(
        report,
        epochs=tuple(replace(epoch, candidates=tuple(map(candidate, epoch.candidates))) for epoch in report.epochs),
    )


def _epoch(material: Material, week: Week) -> EpochWeek:
    epoch, report = material.epoch, material.report
    buckets = week_counts.buckets_of(material.rollups)
    own = week_counts.of_week(buckets, week)
    captured = week_counts.summed(own, Family.LIVE, "")
    found = [_candidate(material, standing, buckets, week) for standing in report.candidates]
    return EpochWeek(
        experiment=material.experiment,
        epoch=epoch,
        captures=captured["answered"],
        live_failures=captured["failed"],
        report=report,
        candidates=tuple(candidate for candidate, _ in found),
        diagnoses=diagnosis.diagnose(
            [suspect for _, suspect in found],
            live=epoch.live,
            bucket_seconds=epoch.bucket_seconds,
            noise=report.noise_floor,
            pairs=report.pairs,
        ),
        cost=material.cost,
    )


def _candidate(
    material: Material, standing: CandidateReport, buckets: Sequence[Bucket], week: Week
) -> tuple[CandidateWeek, Suspect]:
    version, report = standing.version, material.report
    own = week_counts.of_week(buckets, week)
    seen = week_counts.categories(own, version)
    threshold = week_counts.log_threshold(len(material.epoch.candidates), report.alpha)
    rate, before = _two_weeks(seen, buckets, version, week, threshold)
    segments = segment_report.build(material.rollups, version=version, alpha=report.alpha)
    drift, evidence = drift_of(buckets, version, bucket_seconds=material.epoch.bucket_seconds)
    candidate = CandidateWeek(
        version=version,
        categories=seen,
        reasons={
            family.removesuffix("_reason"): dict(week_counts.summed(own, family, version))
            for family in (Family.ERROR_REASON, Family.UNCOMPARABLE_REASON, Family.DROPPED_REASON)
        },
        rate=rate,
        before=before,
        proven_change=_apart(rate, before),
        days=week_counts.days(buckets, version, week, log_threshold=threshold),
        standing=standing,
        review=next((review for review in material.reviews if review.version == version), None),
        pattern=week_patterns.find(
            standing,
            seen,
            live=material.epoch.live,
            segments=segments,
            drift=drift,
            drift_evidence=evidence,
            pairs=report.pairs,
        ),
        cases=tuple(material.cases.get(version, ())),
    )
    return candidate, _suspect(candidate, own, buckets, segments, drift)


def _suspect(
    candidate: CandidateWeek,
    buckets: Sequence[Bucket],
    epoch_buckets: Sequence[Bucket],
    segments: SegmentReport,
    drift: Drift | None,
) -> Suspect:
    return Suspect(
        version=candidate.version,
        categories=candidate.categories,
        buckets=buckets,
        epoch_buckets=epoch_buckets,
        alerts=[segment for segment in segments.segments if segment.alert],
        bad=segments.bad,
        drift=drift,
    )


def _two_weeks(
    seen: Categories, buckets: Sequence[Bucket], version: str, week: Week, threshold: float
) -> tuple[Rate, Rate | None]:
    """The week's rate and that of the week before, where the epoch counted anything then."""
    former = week_counts.categories(week_counts.of_week(buckets, week.previous), version)
    rate, before = week_counts.rates(
        [(seen.bad, seen.compared), (former.bad, former.compared)], log_threshold=threshold
    )
    return rate, before if before.n else None


def _apart(rate: Rate, before: Rate | None) -> bool:
    if before is None or before.interval is None or rate.interval is None:
        return False
    return rate.interval.lower > before.interval.upper or rate.interval.upper < before.interval.lower


def drift_of(buckets: Sequence[Bucket], version: str, *, bucket_seconds: int) -> tuple[Drift | None, float]:
    """The first change of a candidate's rate that rings, hour by hour, and ln of the strongest evidence by then.

    Args:
        buckets: of the epoch so far, oldest first.
        version: the candidate.
        bucket_seconds: their width; where it is above an hour, hours are as long.
    """
    period = max(HOUR, bucket_seconds)
    hours: dict[int, tuple[int, int]] = {}
    for bucket in buckets:
        seen, start = week_counts.categories([bucket], version), bucket.starts_at // period * period
        bad, n = hours.get(start, (0, 0))
        hours[start] = (bad + seen.bad, n + seen.compared)
    alarm, evidence = first_alarm([bad for bad, _ in hours.values()], [n for _, n in hours.values()])
    if alarm is None:
        return None, evidence
    start = list(hours)[alarm.hour]
    return Drift(at=start, until=start + period, alarm=alarm), evidence
