"""What the use cases need of the world. Adapters make these real."""

from multishadow_server.service.ports.access import AuditLine, AuditLog, AuditQuery, TokenChange, TokenStore
from multishadow_server.service.ports.alarms import AlarmStore, Past, Span
from multishadow_server.service.ports.capture_log import (
    CaptureBacklog,
    CaptureLog,
    CaptureReader,
    LoggedBatch,
    LogPressure,
    LogSize,
    LogState,
    PartitionLeases,
    PartitionReader,
)
from multishadow_server.service.ports.comparison_lists import (
    ComparisonLists,
    ComparisonPage,
    ListedComparison,
    WholeComparison,
)
from multishadow_server.service.ports.configuration import ClaimReader, ConfigurationSource
from multishadow_server.service.ports.control import Change, ControlStore, FlagRecord, FlagRevision, Promotion
from multishadow_server.service.ports.dead_letters import (
    Attempt,
    ClaimedLetter,
    LetterFilter,
    LetterLine,
    LetterQueue,
    LetterStore,
    StoredLetter,
)
from multishadow_server.service.ports.evidence import EvidenceStore
from multishadow_server.service.ports.exports import (
    AnswerFilter,
    AnswerOrder,
    AnswerPlace,
    AnswerStore,
    ExportPage,
    StoredAnswer,
)
from multishadow_server.service.ports.flag_evaluation import Evaluation, FlagType, PublishedFlags
from multishadow_server.service.ports.labels import LabelChange, LabelRecord, LabelStore
from multishadow_server.service.ports.live_counts import LiveCountReader, LiveCountStore
from multishadow_server.service.ports.observations import Flush, KeptAnswers, ObservationStore, StoredComparison
from multishadow_server.service.ports.privacy import (
    Erased,
    Rewritten,
    SealSource,
    Selection,
    StoredTraffic,
    TrafficStore,
)
from multishadow_server.service.ports.probes import ProbeClaim, ProbeKey, ProbeStore
from multishadow_server.service.ports.processes import ProcessRegistry, ProcessStatus
from multishadow_server.service.ports.promotions import LiveFigureReader, PromotionHistory, PromotionLine
from multishadow_server.service.ports.reviews import ComparisonLine, KeptComparison, ReviewStore
from multishadow_server.service.ports.rollouts import (
    NewRollout,
    RolloutEvent,
    RolloutRecords,
    RolloutStore,
    StageCounts,
)
from multishadow_server.service.ports.sessions import SessionRecords, SessionStore, StoredTurn
from multishadow_server.service.ports.stored_messages import StoredMessages
from multishadow_server.service.ports.stored_requests import RequestFilter, StoredKey, StoredRequests
from multishadow_server.service.ports.versions import (
    Answer,
    AnswerStream,
    Comparer,
    ModelGateway,
    PredictionCodec,
    StreamedAnswer,
    VersionProbe,
)
from multishadow_server.service.ports.webhooks import (
    ClaimedDelivery,
    DeliveryLine,
    WebhookQueue,
    WebhookSender,
    WebhookStanding,
    WebhookStore,
)
from multishadow_server.service.ports.weekly_reports import (
    KeptReport,
    ReportLine,
    ReportRenderer,
    ReportTexts,
    WeeklyReportStore,
)

__all__ = [
    "AlarmStore",
    "Answer",
    "AnswerFilter",
    "AnswerOrder",
    "AnswerPlace",
    "AnswerStore",
    "AnswerStream",
    "Attempt",
    "AuditLine",
    "AuditLog",
    "AuditQuery",
    "CaptureBacklog",
    "CaptureLog",
    "CaptureReader",
    "Change",
    "ClaimReader",
    "ClaimedDelivery",
    "ClaimedLetter",
    "Comparer",
    "ComparisonLine",
    "ComparisonLists",
    "ComparisonPage",
    "ConfigurationSource",
    "ControlStore",
    "DeliveryLine",
    "Erased",
    "Evaluation",
    "EvidenceStore",
    "ExportPage",
    "FlagRecord",
    "FlagRevision",
    "FlagType",
    "Flush",
    "KeptAnswers",
    "KeptComparison",
    "KeptReport",
    "LabelChange",
    "LabelRecord",
    "LabelStore",
    "LetterFilter",
    "LetterLine",
    "LetterQueue",
    "LetterStore",
    "ListedComparison",
    "LiveCountReader",
    "LiveCountStore",
    "LiveFigureReader",
    "LogPressure",
    "LogSize",
    "LogState",
    "LoggedBatch",
    "ModelGateway",
    "NewRollout",
    "ObservationStore",
    "PartitionLeases",
    "PartitionReader",
    "Past",
    "PredictionCodec",
    "ProbeClaim",
    "ProbeKey",
    "ProbeStore",
    "ProcessRegistry",
    "ProcessStatus",
    "Promotion",
    "PromotionHistory",
    "PromotionLine",
    "PublishedFlags",
    "ReportLine",
    "ReportRenderer",
    "ReportTexts",
    "RequestFilter",
    "ReviewStore",
    "Rewritten",
    "RolloutEvent",
    "RolloutRecords",
    "RolloutStore",
    "SealSource",
    "Selection",
    "SessionRecords",
    "SessionStore",
    "Span",
    "StageCounts",
    "StoredAnswer",
    "StoredComparison",
    "StoredKey",
    "StoredLetter",
    "StoredMessages",
    "StoredRequests",
    "StoredTraffic",
    "StoredTurn",
    "StreamedAnswer",
    "TokenChange",
    "TokenStore",
    "TrafficStore",
    "VersionProbe",
    "WebhookQueue",
    "WebhookSender",
    "WebhookStanding",
    "WebhookStore",
    "WeeklyReportStore",
    "WholeComparison",
]
