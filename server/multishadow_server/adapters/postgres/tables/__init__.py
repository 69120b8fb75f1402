"""The tables. This metadata is the truth: a test holds the migrations to it.

Times are `timestamptz`; revisions grow by one with each change of the configuration. What is written once and read
whole (comparators, flag definitions, observations) is `jsonb`.
"""

from __future__ import annotations

from multishadow_server.adapters.postgres.tables.access import TokenRow
from multishadow_server.adapters.postgres.tables.base import Table
from multishadow_server.adapters.postgres.tables.dead_letters import DeadLetterRow
from multishadow_server.adapters.postgres.tables.experiments import EpochRow, ExperimentRow, GateRecordRow, RollupRow
from multishadow_server.adapters.postgres.tables.flags import ConfigurationRevisionRow, FlagRevisionRow, FlagRow
from multishadow_server.adapters.postgres.tables.labels import AnswerRow, LabelRow, LabelTallyRow, ReviewRow
from multishadow_server.adapters.postgres.tables.models import ModelRow, VersionRow
from multishadow_server.adapters.postgres.tables.observations import ComparisonRow, PartitionOffsetRow, SeenInputsRow
from multishadow_server.adapters.postgres.tables.operation import AuditRow, ProcessRow
from multishadow_server.adapters.postgres.tables.privacy import HashKeyRow
from multishadow_server.adapters.postgres.tables.promotions import (
    LiveCountRow,
    PromotionRow,
    RolloutEventRow,
    RolloutRow,
)
from multishadow_server.adapters.postgres.tables.sessions import OpenSessionRow, SessionClockRow
from multishadow_server.adapters.postgres.tables.watching import (
    AlarmRow,
    ProbeChangeRow,
    ProbeStateRow,
    WatchReadingRow,
)
from multishadow_server.adapters.postgres.tables.webhooks import WebhookDeliveryRow, WebhookMessageRow, WebhookRow
from multishadow_server.adapters.postgres.tables.weekly_reports import WeeklyReportRow

__all__ = [
    "AlarmRow",
    "AnswerRow",
    "AuditRow",
    "ComparisonRow",
    "ConfigurationRevisionRow",
    "DeadLetterRow",
    "EpochRow",
    "ExperimentRow",
    "FlagRevisionRow",
    "FlagRow",
    "GateRecordRow",
    "HashKeyRow",
    "LabelRow",
    "LabelTallyRow",
    "LiveCountRow",
    "ModelRow",
    "OpenSessionRow",
    "PartitionOffsetRow",
    "ProbeChangeRow",
    "ProbeStateRow",
    "ProcessRow",
    "PromotionRow",
    "ReviewRow",
    "RolloutEventRow",
    "RolloutRow",
    "RollupRow",
    "SeenInputsRow",
    "SessionClockRow",
    "Table",
    "TokenRow",
    "VersionRow",
    "WatchReadingRow",
    "WebhookDeliveryRow",
    "WebhookMessageRow",
    "WebhookRow",
    "WeeklyReportRow",
]
