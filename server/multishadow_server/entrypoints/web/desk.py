"""What the pages read and change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.service.ports import (
    AlarmStore,
    AuditLog,
    CaptureBacklog,
    ControlStore,
    LabelStore,
    LetterStore,
    ProbeStore,
    ReportRenderer,
    ReviewStore,
    RolloutStore,
    SessionRecords,
    VersionProbe,
    WeeklyReportStore,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """What the pages' use cases need; the same as that of the control API.

    Args:
        store: configuration, experiments and counts.
        probe: connects to versions before they go live.
        labels: where labels are.
        reviews: where stored comparisons are, and what people said of them.
        backlog: the capture log; it may be away.
        alarms: where alarms are.
        probes: where it is kept how versions stand with probes.
        rollouts: where rollouts are.
        dead_letters: shadow calls that failed for good.
        sessions: what is known of sessions.
        audit: who changed what.
        weekly_reports, report_renderer: where weekly reports are, and what writes them.
        hourly_counts_days: days for which a week's counts can be told apart.
        clock: the time, in seconds since the Unix epoch.
    """

    store: ControlStore
    probe: VersionProbe
    labels: LabelStore
    reviews: ReviewStore
    backlog: CaptureBacklog
    alarms: AlarmStore
    probes: ProbeStore
    rollouts: RolloutStore
    dead_letters: LetterStore
    sessions: SessionRecords
    audit: AuditLog
    weekly_reports: WeeklyReportStore
    report_renderer: ReportRenderer
    hourly_counts_days: int
    clock: Callable[[], float] = time.time
