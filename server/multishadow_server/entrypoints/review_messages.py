"""Stored comparisons, verdicts on them, and what follows for the threshold, as messages of the control API."""

from __future__ import annotations

from collections.abc import Mapping

from multishadow.v1 import control_pb2 as pb
from multishadow_server.core.observation import Observation
from multishadow_server.core.reviews import Review, ReviewVerdict
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.errors import InvalidInput
from multishadow_server.service.calibrating import EpochCalibration
from multishadow_server.service.ports import ComparisonLine, KeptComparison

_VERDICTS: Mapping[int, ReviewVerdict] = {
    pb.REVIEW_VERDICT_CANDIDATE_BETTER: ReviewVerdict.CANDIDATE_BETTER,
    pb.REVIEW_VERDICT_LIVE_BETTER: ReviewVerdict.LIVE_BETTER,
    pb.REVIEW_VERDICT_BOTH_FINE: ReviewVerdict.BOTH_FINE,
    pb.REVIEW_VERDICT_BOTH_WRONG: ReviewVerdict.BOTH_WRONG,
}
_MESSAGES: Mapping[ReviewVerdict, pb.ReviewVerdict.ValueType] = {
    ReviewVerdict.CANDIDATE_BETTER: pb.REVIEW_VERDICT_CANDIDATE_BETTER,
    ReviewVerdict.LIVE_BETTER: pb.REVIEW_VERDICT_LIVE_BETTER,
    ReviewVerdict.BOTH_FINE: pb.REVIEW_VERDICT_BOTH_FINE,
    ReviewVerdict.BOTH_WRONG: pb.REVIEW_VERDICT_BOTH_WRONG,
}


def verdict_of(verdict: pb.ReviewVerdict.ValueType) -> ReviewVerdict:
    """The verdict that was given. Raises InvalidInput unless it is one."""
    if verdict not in _VERDICTS:
        raise InvalidInput(f"verdict: say which: {', '.join(pb.ReviewVerdict.keys()[1:])}")
    return _VERDICTS[verdict]


def verdict_message(verdict: ReviewVerdict | None) -> pb.ReviewVerdict.ValueType:
    """A verdict; unspecified where nobody gave one."""
    return _MESSAGES[verdict] if verdict else pb.REVIEW_VERDICT_UNSPECIFIED


def line_message(line: ComparisonLine) -> pb.ComparisonLine:
    """One candidate's answer in a stored comparison."""
    return pb.ComparisonLine(
        id=line.id,
        request_id=line.request_id,
        received_at=messages.moment(line.received_at),
        version=line.version,
        similarity=line.similarity,
        detail=line.detail,
        verdict=_MESSAGES[line.verdict] if line.verdict else pb.REVIEW_VERDICT_UNSPECIFIED,
    )


def comparison_response(found: KeptComparison) -> pb.GetComparisonResponse:
    """A stored comparison."""
    said = {review.version: review for review in found.reviews}
    return pb.GetComparisonResponse(
        id=found.id,
        model=found.epoch.model,
        request_id=found.request_id,
        received_at=messages.moment(found.received_at),
        request=found.request,
        live_version=found.epoch.live,
        live_response=found.response,
        answers=[_answer(seen, said.get(seen.version)) for seen in found.observations],
        payloads=found.payloads,
        protocol=found.epoch.comparator.protocol,
    )


def calibrate_response(found: EpochCalibration, *, missed: float, alpha: float) -> pb.CalibrateResponse:
    """A walk over thresholds."""
    walked = found.calibration
    return pb.CalibrateResponse(
        model=found.epoch.model,
        experiment_id=found.experiment.id,
        epoch=found.epoch.number,
        threshold=walked.threshold,
        proposed=walked.proposed,
        steps=[
            pb.CalibrationStep(
                threshold=step.threshold,
                version=step.version,
                missed=step.missed,
                missed_upper=step.missed_upper,
                false_alarms=step.false_alarms,
                proven=step.proven,
            )
            for step in walked.steps
        ],
        told_agreeing=walked.told_agreeing,
        told_divergent=walked.told_divergent,
        missed=missed,
        alpha=alpha,
    )


def _answer(seen: Observation, review: Review | None) -> pb.CandidateAnswer:
    return pb.CandidateAnswer(
        version=seen.version,
        outcome=seen.outcome,
        reason=seen.reason,
        detail=seen.detail,
        similarity=seen.similarity,
        response=seen.response,
        verdict=_MESSAGES[review.verdict] if review else pb.REVIEW_VERDICT_UNSPECIFIED,
        reviewed_by=review.by if review else "",
    )
