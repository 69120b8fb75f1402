"""What the use cases need of the world. Adapters make these real."""

from multishadow_server.service.ports.capture_log import (
    CaptureBacklog,
    CaptureLog,
    CaptureReader,
    LoggedBatch,
    PartitionLeases,
    PartitionReader,
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
from multishadow_server.service.ports.flag_evaluation import Evaluation, FlagType, PublishedFlags
from multishadow_server.service.ports.labels import LabelChange, LabelRecord, LabelStore
from multishadow_server.service.ports.live_counts import LiveCountStore
from multishadow_server.service.ports.observations import Flush, KeptAnswers, ObservationStore, StoredComparison
from multishadow_server.service.ports.processes import ProcessRegistry, ProcessStatus
from multishadow_server.service.ports.reviews import ComparisonLine, KeptComparison, ReviewStore
from multishadow_server.service.ports.rollouts import (
    NewRollout,
    RolloutEvent,
    RolloutRecords,
    RolloutStore,
    StageCounts,
)
from multishadow_server.service.ports.versions import Answer, Comparer, ModelGateway, PredictionCodec, VersionProbe

__all__ = [
    "Answer",
    "Attempt",
    "CaptureBacklog",
    "CaptureLog",
    "CaptureReader",
    "Change",
    "ClaimReader",
    "ClaimedLetter",
    "Comparer",
    "ComparisonLine",
    "ConfigurationSource",
    "ControlStore",
    "Evaluation",
    "FlagRecord",
    "FlagRevision",
    "FlagType",
    "Flush",
    "KeptAnswers",
    "KeptComparison",
    "LabelChange",
    "LabelRecord",
    "LabelStore",
    "LetterFilter",
    "LetterLine",
    "LetterQueue",
    "LetterStore",
    "LiveCountStore",
    "LoggedBatch",
    "ModelGateway",
    "NewRollout",
    "ObservationStore",
    "PartitionLeases",
    "PartitionReader",
    "PredictionCodec",
    "ProcessRegistry",
    "ProcessStatus",
    "Promotion",
    "PublishedFlags",
    "ReviewStore",
    "RolloutEvent",
    "RolloutRecords",
    "RolloutStore",
    "StageCounts",
    "StoredComparison",
    "StoredLetter",
    "VersionProbe",
]
