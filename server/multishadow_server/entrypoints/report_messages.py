"""The comparison report as a message of the control API."""

from __future__ import annotations

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.findings import (
    CandidateQuality,
    CandidateReport,
    Interval,
    NoiseFloor,
    PairReport,
    Quality,
    ReviewCounts,
)
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints import gate_messages, schedule_messages, session_messages
from multishadow_server.service.comparison_report import ExperimentReport


def compare_response(found: ExperimentReport) -> pb.CompareResponse:
    """The report, with the experiment and the epoch that it is about."""
    report = found.report
    return pb.CompareResponse(
        experiment=messages.experiment_message(
            found.experiment, schedule_messages.schedule_message(found.experiment, found.outlook)
        ),
        live_version=report.live_version,
        candidates=[_candidate(candidate) for candidate in report.candidates],
        pairs=[_pair(pair) for pair in report.pairs],
        alpha=report.alpha,
        family_size=report.family_size,
        evidence_threshold=report.evidence_threshold,
        test_name=report.test_name,
        advice=report.advice,
        state=report.state,
        winner=report.winner,
        epoch=found.epoch.number,
        epoch_reason=found.epoch_reason,
        epoch_opened_at=messages.moment(found.epoch.opened_at),
        read_at=messages.moment(found.read_at),
        live_failures=report.live_failures,
        noise_floor=_noise_floor(report.noise_floor) if report.noise_floor else None,
        review_verdicts=[_review_counts(counts) for counts in report.review_verdicts],
        quality=_quality(report.quality) if report.quality else None,
        reviews=[gate_messages.review_message(review) for review in found.reviews],
        panel=gate_messages.panel_message(found.panel),
        sampling_share=found.sampling_share,
        unit=report.unit,
        sessions=session_messages.report_message(found.sessions) if found.sessions else None,
    )


def interval(found: Interval | None) -> pb.Interval | None:
    """An interval, where there is one."""
    if found is None:
        return None
    return pb.Interval(estimate=found.estimate, lower=found.lower, upper=found.upper)


def _noise_floor(found: NoiseFloor) -> pb.NoiseFloor:
    return pb.NoiseFloor(n=found.n, diverged=found.diverged, failed=found.failed, divergence=interval(found.divergence))


def _candidate(candidate: CandidateReport) -> pb.CandidateReport:
    return pb.CandidateReport(
        version=candidate.version,
        n=candidate.n,
        agreed=candidate.agreed,
        diverged=candidate.diverged,
        errors=candidate.errors,
        timeouts=candidate.timeouts,
        uncomparable=candidate.uncomparable,
        dropped=candidate.dropped,
        completeness=candidate.completeness,
        divergence=interval(candidate.divergence),
        band=candidate.band,
        band_confirmed=candidate.band_confirmed,
        band_proven=candidate.band_proven,
        similarity=candidate.similarity,
        latency_p50_ms=candidate.latency_p50_ms,
        latency_p99_ms=candidate.latency_p99_ms,
        live_latency_p50_ms=candidate.live_latency_p50_ms,
        live_latency_p99_ms=candidate.live_latency_p99_ms,
        rank_best=candidate.rank_best,
        rank_worst=candidate.rank_worst,
        in_best_set=candidate.in_best_set,
        dropped_by_reason=candidate.dropped_by_reason,
        uncomparable_by_reason=candidate.uncomparable_by_reason,
        ranked=candidate.ranked,
        errors_by_reason=candidate.errors_by_reason,
        comparisons_needed=candidate.comparisons_needed,
        duplicates=candidate.duplicates,
        over_noise=interval(candidate.over_noise),
        rate_moved=candidate.rate_moved,
        first_latency_p50_ms=candidate.first_latency_p50_ms,
        first_latency_p99_ms=candidate.first_latency_p99_ms,
        live_first_latency_p50_ms=candidate.live_first_latency_p50_ms,
        live_first_latency_p99_ms=candidate.live_first_latency_p99_ms,
    )


def _pair(pair: PairReport) -> pb.PairReport:
    return pb.PairReport(
        first=pair.first,
        second=pair.second,
        n=pair.n,
        only_first_bad=pair.only_first_bad,
        only_second_bad=pair.only_second_bad,
        difference=interval(pair.difference),
        log_evidence_first_worse=pair.log_evidence_first_worse,
        log_evidence_second_worse=pair.log_evidence_second_worse,
        p_raw=pair.p_raw,
        p_adjusted=pair.p_adjusted,
        verdict=pair.verdict,
        requests_needed=pair.requests_needed,
        dispersion=pair.dispersion,
        overdispersed=pair.overdispersed,
    )


def _quality(quality: Quality) -> pb.QualityReport:
    return pb.QualityReport(
        labelled=quality.labelled,
        too_young=quality.too_young,
        delay_seconds=quality.delay_seconds,
        live_n=quality.live_n,
        live_right=quality.live_right,
        live_accuracy=interval(quality.live_accuracy),
        candidates=[_candidate_quality(candidate) for candidate in quality.candidates],
        margin=quality.margin,
        evidence_threshold=quality.evidence_threshold,
    )


def _candidate_quality(candidate: CandidateQuality) -> pb.CandidateQuality:
    return pb.CandidateQuality(
        version=candidate.version,
        n=candidate.n,
        right=candidate.right,
        live_right=candidate.live_right,
        only_right=candidate.only_right,
        only_live_right=candidate.only_live_right,
        accuracy=interval(candidate.accuracy),
        difference=interval(candidate.difference),
        log_evidence_not_worse=candidate.log_evidence_not_worse,
        not_worse=candidate.not_worse,
        unjudged=candidate.unjudged,
    )


def _review_counts(counts: ReviewCounts) -> pb.ReviewCounts:
    return pb.ReviewCounts(
        version=counts.version,
        candidate_better=counts.candidate_better,
        live_better=counts.live_better,
        both_fine=counts.both_fine,
        both_wrong=counts.both_wrong,
    )
