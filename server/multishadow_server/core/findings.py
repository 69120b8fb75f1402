"""What a report says, as values; they mirror CompareResponse of the control API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from multishadow_server.core.session_terms import Unit
from multishadow_server.core.statistics.bands import Band
from multishadow_server.core.statistics.ranking import Verdict


class State(StrEnum):
    """Whether the comparison has an answer.

    `decided`: one candidate is proven to be the best, or all that may be the best are proven equivalent; a single
    candidate is decided when its band is confirmed.
    """

    DECIDED = "decided"
    UNDECIDED = "undecided"
    NO_DATA = "no_data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A confidence sequence at the time of the report: it holds however often somebody looks."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseFloor:
    """What the live version made of requests that it had answered before.

    Args:
        n: comparisons that count.
        diverged: answers that differ from its former one.
        failed: errors and timeouts.
        divergence: how often it differs from itself, at 1 - α.
    """

    n: int
    diverged: int
    failed: int
    divergence: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateReport:
    """One candidate against the live version.

    Args:
        version: its name.
        n: comparisons that count: agreed + diverged + errors + timeouts.
        agreed: answers that agree with the live one.
        diverged: answers that do not.
        errors: calls that failed.
        timeouts: calls that took too long.
        uncomparable: pairs of answers that cannot be compared.
        dropped: copies that were never sent.
        completeness: n as a share of n + uncomparable + dropped; 0 without any.
        divergence: rate of diverged, errors and timeouts; joint over all candidates; None while n = 0.
        band: that of the upper bound.
        band_confirmed: whether the interval lies in one band, and the rate has not changed.
        band_proven: that of the lower bound: "at least".
        similarity: mean in [0, 1], failures counting 0; None while n = 0.
        latency_p50_ms: of answers, timeouts being infinitely long; None without any, inf when half timed out.
        latency_p99_ms: likewise; inf when more than 1 % timed out.
        live_latency_p50_ms: of the live version on the same requests.
        live_latency_p99_ms: likewise.
        ranked: False while there is nothing to rank by; then there is no rank.
        rank_best: best rank that the evidence leaves; 1 diverges least; 0 when not ranked.
        rank_worst: worst rank likewise.
        in_best_set: whether it may still be the best.
        dropped_by_reason: count by reason.
        uncomparable_by_reason: count by reason.
        errors_by_reason: count by gRPC status.
        comparisons_needed: roughly how many more confirm the band at the present rate; None when it is confirmed or
            nobody can say.
        duplicates: copies that were not sent, because one of the same input counts in the time bucket already.
        over_noise: rate of divergence minus the noise floor's, on the requests that both were compared on; joint over
            all candidates; None without any.
        rate_moved: whether the share so far lies outside what was proven of the rate before; `divergence` is then that
            of all counts together, and else the intersection of the intervals at all times so far.
        first_latency_p50_ms: time to the first message of streamed answers, as `latency_p50_ms`; None where nothing is
            streamed.
        first_latency_p99_ms: likewise.
        live_first_latency_p50_ms: of the live version on the same requests.
        live_first_latency_p99_ms: likewise.
    """

    version: str
    n: int
    agreed: int
    diverged: int
    errors: int
    timeouts: int
    uncomparable: int
    dropped: int
    completeness: float
    divergence: Interval | None
    band: Band
    band_confirmed: bool
    band_proven: Band
    similarity: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    live_latency_p50_ms: float | None
    live_latency_p99_ms: float | None
    ranked: bool
    rank_best: int
    rank_worst: int
    in_best_set: bool
    dropped_by_reason: Mapping[str, int]
    uncomparable_by_reason: Mapping[str, int]
    errors_by_reason: Mapping[str, int]
    comparisons_needed: int | None
    duplicates: int
    over_noise: Interval | None
    rate_moved: bool
    first_latency_p50_ms: float | None = None
    first_latency_p99_ms: float | None = None
    live_first_latency_p50_ms: float | None = None
    live_first_latency_p99_ms: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairReport:
    """Two candidates on the requests that both were compared on.

    Args:
        first: the one that stands higher in the report.
        second: the other one.
        n: requests that count for both.
        only_first_bad: of these, those where only the first diverged or failed.
        only_second_bad: where only the second did.
        difference: rate of the first minus rate of the second; joint over all pairs; -1 … 1 while n = 0.
        log_evidence_first_worse: ln of the evidence that the first diverges more often.
        log_evidence_second_worse: likewise for the second.
        p_raw: anytime-valid, two-sided, for this pair alone.
        p_adjusted: for the whole family, of the stronger direction; at most α exactly when the verdict is better or
            worse.
        verdict: the first, seen from the second.
        requests_needed: roughly how many more requests decide it at its present rates; None when it is decided or
            nobody can say.
        dispersion: variance of (only first bad - only second bad) over time buckets, as a multiple of what independent
            requests have; None while there is too little to say.
        overdispersed: whether that is more than chance, so that the figures above are too sure of themselves.
    """

    first: str
    second: str
    n: int
    only_first_bad: int
    only_second_bad: int
    difference: Interval
    log_evidence_first_worse: float
    log_evidence_second_worse: float
    p_raw: float
    p_adjusted: float
    verdict: Verdict
    requests_needed: int | None
    dispersion: float | None
    overdispersed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateQuality:
    """A candidate beside the live version on the same labelled requests.

    Args:
        version: its name.
        n: labelled requests on which both can be judged.
        right: of these, those on which the candidate was right.
        live_right: on which the live version was.
        only_right: on which only the candidate was.
        only_live_right: on which only the live version was.
        accuracy: right as a share of n; joint over all versions; None while n = 0.
        difference: accuracy of the candidate minus live's; joint over all candidates; None while n = 0.
        log_evidence_not_worse: ln of the evidence that it is worse by less than the margin.
        not_worse: whether that is enough.
        unjudged: labelled requests on which the candidate cannot be judged.
    """

    version: str
    n: int
    right: int
    live_right: int
    only_right: int
    only_live_right: int
    accuracy: Interval | None
    difference: Interval | None
    log_evidence_not_worse: float
    not_worse: bool
    unjudged: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Whether versions were right, by labels; kept apart from whether they agree.

    Args:
        labelled: labelled requests in time buckets that ended longer ago than the label delay; the rest counts these.
        too_young: labelled requests in later buckets.
        delay_seconds: the label delay.
        live_n: labelled requests on which the live version can be judged.
        live_right: of these, those on which it was right.
        live_accuracy: as a share; None while live_n = 0.
        candidates: in the epoch's order.
        margin: a candidate that is worse by less than this is not worse.
        evidence_threshold: evidence that one candidate needs for that.
    """

    labelled: int
    too_young: int
    delay_seconds: int
    live_n: int
    live_right: int
    live_accuracy: Interval | None
    candidates: tuple[CandidateQuality, ...]
    margin: float
    evidence_threshold: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewCounts:
    """What people said of a candidate's answers beside the live ones; a count of each verdict."""

    version: str
    candidate_better: int
    live_better: int
    both_fine: int
    both_wrong: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A comparison of all candidates of an epoch.

    Args:
        live_version: the version they are compared with.
        candidates: in order of rank.
        pairs: in the candidates' order.
        alpha: chance that anything here is ever wrong: once over all ranks, once over all intervals of rates.
        family_size: number of pairs of the epoch's candidates.
        evidence_threshold: evidence that one direction of a pair needs, 2 · family_size / α; 0 without pairs.
        test_name: what was tested with.
        advice: what to do now, in one sentence.
        state: see `State`.
        winner: the one best candidate; empty when there is none.
        live_failures: sampled requests that count for nobody, because the live version itself failed.
        noise_floor: how often the live version differs from itself; None where that is not measured.
        quality: who was right, by labels; None when answers are not labelled.
        review_verdicts: what people said, of each candidate that they looked at.
        unit: what it ranks by; rates, bands, pairs and advice are about it.
    """

    live_version: str
    candidates: tuple[CandidateReport, ...]
    pairs: tuple[PairReport, ...]
    alpha: float
    family_size: int
    evidence_threshold: float
    test_name: str
    advice: str
    state: State
    winner: str
    live_failures: int
    noise_floor: NoiseFloor | None
    quality: Quality | None
    review_verdicts: tuple[ReviewCounts, ...]
    unit: Unit = Unit.REQUEST
