"""What the gates of one candidate look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishadow_server.core.findings import CandidateReport, Report
from multishadow_server.core.gates import Record
from multishadow_server.core.rollup import Tables
from multishadow_server.core.segment_report import SegmentReport
from multishadow_server.core.statistics.non_inferiority import LabelledPair


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What the gates of one candidate look at.

    Args:
        report: on all candidates of the epoch.
        candidate: the one in question.
        tables: the epoch's counts.
        hours: the same by the start of the time bucket, seconds since the Unix epoch, oldest first.
        bucket_seconds: the buckets' width.
        candidates: the epoch's, in its order.
        by_labels: whether the report ranks by labels.
        collected_for: seconds since the epoch's first capture, see `experiment.collected_for`.
        shadowed_for: seconds of that time in which a window was open: all of it, where there are no windows.
        shares: what part of the largest sample each candidate should get, by name; None when that is not known, or was
            changed within the epoch.
        labels: the candidate beside the live version on labelled requests that are old enough.
        segments: the candidate by kinds of request.
        divergent_samples: stored comparisons in which the candidate diverged or failed.
        reviewed: how many of the ten least similar of them have a verdict of a person.
        serving: whether it answers callers already, in a rollout.
        attested: what people vouched for, by what it is.
    """

    report: Report
    candidate: CandidateReport
    tables: Tables
    hours: Mapping[int, Tables]
    bucket_seconds: int
    candidates: Sequence[str]
    by_labels: bool
    collected_for: float
    shadowed_for: float
    shares: Mapping[str, float] | None
    labels: LabelledPair
    segments: SegmentReport
    divergent_samples: int
    reviewed: int
    serving: bool
    attested: Mapping[str, Record]

    @property
    def log_threshold(self) -> float:
        """Ln of the evidence that proves one of k candidates' figures."""
        return math.log(max(len(self.candidates), 1) / self.report.alpha)
