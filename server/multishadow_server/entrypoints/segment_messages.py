"""Segments as messages of the control API."""

from __future__ import annotations

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.segment_report import Correlation, Segment
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints import report_messages
from multishadow_server.service.segments import CandidateSegments


def segments_response(found: CandidateSegments) -> pb.ListSegmentsResponse:
    """The report, with the experiment and the epoch that it is about."""
    report = found.report
    return pb.ListSegmentsResponse(
        experiment=messages.experiment_message(found.experiment),
        live_version=found.epoch.live,
        version=report.version,
        n=report.n,
        bad=report.bad,
        segments=[_segment(segment) for segment in report.segments],
        correlations=[_correlation(correlation) for correlation in report.correlations],
        alpha=report.alpha,
        test_name=report.test_name,
        finished_buckets=report.finished_buckets,
        epoch=found.epoch.number,
        read_at=messages.moment(found.read_at),
    )


def _segment(segment: Segment) -> pb.Segment:
    return pb.Segment(
        feature=segment.feature,
        level=segment.level,
        n=segment.n,
        diverged=segment.diverged,
        failed=segment.failed,
        rate=report_messages.interval(segment.rate),
        rest_rate=segment.rest_rate,
        log_evidence=segment.log_evidence,
        alert=segment.alert,
        p_exact=segment.p_exact,
        p_adjusted=segment.p_adjusted,
    )


def _correlation(correlation: Correlation) -> pb.Correlation:
    return pb.Correlation(
        feature=correlation.feature,
        n=correlation.n,
        rho=report_messages.interval(correlation.rho),
        p_raw=correlation.p_raw,
        p_adjusted=correlation.p_adjusted,
    )
