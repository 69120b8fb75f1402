"""What the pages read and change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from multishadow_server.service.live_window import LiveWindow
from multishadow_server.service.model_cards import ModelCards
from multishadow_server.service.ports import (
    AlarmStore,
    AuditLog,
    CaptureBacklog,
    Comparer,
    ComparisonLists,
    ControlStore,
    LabelStore,
    LetterStore,
    ModelGateway,
    ProbeStore,
    PromotionHistory,
    ReportRenderer,
    ReviewStore,
    RolloutStore,
    SessionRecords,
    StoredMessages,
    VersionProbe,
    WeeklyReportStore,
)
from multishadow_server.service.recent import Recent


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
        promotions: what was made live.
        live: what callers got lately.
        warnings: what of this process's setup is not as it should be.
        comparisons: stored comparisons as lists.
        messages: reads what is stored.
        gateway: calls versions, for who asks them again.
        comparer: compares what they answer.
        weekly_reports, report_renderer: where weekly reports are, and what writes them.
        hourly_counts_days: days for which a week's counts can be told apart.
        clock: the time, in seconds since the Unix epoch.
        recent: what was worked out lately, and is dear to work out again.
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
    promotions: PromotionHistory
    live: LiveWindow
    warnings: Callable[[], Sequence[str]] = tuple
    comparisons: ComparisonLists
    messages: StoredMessages
    gateway: ModelGateway
    comparer: Comparer
    weekly_reports: WeeklyReportStore
    report_renderer: ReportRenderer
    hourly_counts_days: int
    clock: Callable[[], float] = time.time
    recent: Recent = field(default_factory=Recent)

    @property
    def cards(self) -> ModelCards:
        """Makes the cards of models."""
        return ModelCards(
            store=self.store,
            promotions=self.promotions,
            rollouts=self.rollouts,
            alarms=self.alarms,
            live=self.live,
            clock=self.clock,
        )
