"""The tables. This metadata is the truth: a test holds the migrations to it.

Times are `timestamptz`; revisions grow by one with each change of the configuration. What is written once and read
whole (comparators, flag definitions, observations) is `jsonb`.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

# Every constraint has a name that a migration can drop and an error message can be understood by.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
MOMENT = DateTime(timezone=True)
NAME_LIST = ARRAY(String())

# A count must hold Σs² with s = round(10⁶·similarity): 10¹² per comparison overflows bigint after nine million.
COUNT = Numeric(39, 0)


class Table(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMES))):
    """Base of all tables: a metadata of their own."""


class ConfigurationRevisionRow(Table, table=True):
    """The present revision: one row, whose lock is the lock of a change."""

    __tablename__ = "configuration_revision"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    revision: int = Field(sa_type=BigInteger)


class ModelRow(Table, table=True):
    """A model's own settings."""

    __tablename__ = "model"

    name: str = Field(primary_key=True)
    comparator: dict[str, Any] = Field(sa_type=JSONB)
    default_timeout: float
    labels: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    segments: list[str] = Field(sa_type=NAME_LIST)
    gates: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    created_at: datetime = Field(sa_type=MOMENT)


class VersionRow(Table, table=True):
    """A version; `ordinal` is its place in the order of registration."""

    __tablename__ = "version"
    __table_args__ = (UniqueConstraint("model", "ordinal"),)

    model: str = Field(primary_key=True, foreign_key="model.name")
    name: str = Field(primary_key=True)
    ordinal: int
    address: str
    timeout: float
    max_in_flight: int
    created_at: datetime = Field(sa_type=MOMENT)


class FlagRevisionRow(Table, table=True):
    """Every definition that a flag ever had, none where it was deleted. Nothing updates an older revision's row."""

    __tablename__ = "flag_revision"
    __table_args__ = (Index("ix_flag_revision_revision", "revision"),)

    key: str = Field(primary_key=True)
    revision: int = Field(primary_key=True, sa_type=BigInteger)
    definition: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    changed_at: datetime = Field(sa_type=MOMENT)
    changed_by: str
    reason: str


class FlagRow(Table, table=True):
    """Which of its definitions a flag has now."""

    __tablename__ = "flag"
    __table_args__ = (ForeignKeyConstraint(["key", "revision"], ["flag_revision.key", "flag_revision.revision"]),)

    key: str = Field(primary_key=True)
    revision: int = Field(sa_type=BigInteger)


class ExperimentRow(Table, table=True):
    """An experiment; a model runs one at a time."""

    __tablename__ = "experiment"
    __table_args__ = (
        CheckConstraint("percent > 0 AND percent <= 100", name="percent"),
        CheckConstraint("bucket_seconds > 0", name="bucket_seconds"),
        Index("ix_experiment_model_id", "model", "id"),
        Index("uq_experiment_running", "model", unique=True, postgresql_where=text("stopped_at IS NULL")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    model: str = Field(foreign_key="model.name")
    candidates: list[str] = Field(sa_type=NAME_LIST)
    percent: float
    noise_percent: float = 0.0
    rank_by: str = "agreement"
    bucket_seconds: int
    started_at: datetime = Field(sa_type=MOMENT)
    ends_at: datetime = Field(sa_type=MOMENT)
    started_by: str
    stopped_at: datetime | None = Field(default=None, sa_type=MOMENT)
    stop_reason: str = ""
    schedule: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    progress: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))


class EpochRow(Table, table=True):
    """An epoch, with its comparator frozen as it was when it opened."""

    __tablename__ = "epoch"
    __table_args__ = (
        UniqueConstraint("experiment_id", "number"),
        CheckConstraint("until_revision >= from_revision", name="revisions"),
        CheckConstraint("(until_revision IS NULL) = (closed_at IS NULL)", name="closed"),
        Index("ix_epoch_closed_at", "closed_at"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    experiment_id: int = Field(foreign_key="experiment.id", sa_type=BigInteger)
    number: int
    live: str
    candidates: list[str] = Field(sa_type=NAME_LIST)
    comparator: dict[str, Any] = Field(sa_type=JSONB)
    noise_percent: float = 0.0
    from_revision: int = Field(sa_type=BigInteger)
    until_revision: int | None = Field(default=None, sa_type=BigInteger)
    opened_at: datetime = Field(sa_type=MOMENT)
    closed_at: datetime | None = Field(default=None, sa_type=MOMENT)
    reason: str


class RollupRow(Table, table=True):
    """One count of one epoch and time bucket."""

    __tablename__ = "rollup"
    # A flush updates rows in place: room on the page keeps these updates out of the index (HOT).
    __table_args__: ClassVar[Any] = {"postgresql_with": {"fillfactor": "70"}}

    epoch_id: int = Field(primary_key=True, foreign_key="epoch.id", sa_type=BigInteger)
    bucket_start: datetime = Field(primary_key=True, sa_type=MOMENT)
    family: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    level: str = Field(primary_key=True)
    n: Decimal = Field(sa_type=COUNT)


class PartitionOffsetRow(Table, table=True):
    """The last message of a log's partition whose effect is in this database."""

    __tablename__ = "partition_offset"
    __table_args__ = (CheckConstraint('"offset" > 0', name="offset"),)

    log_id: str = Field(primary_key=True)
    partition: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    offset: int = Field(sa_type=BigInteger)


class SeenInputsRow(Table, table=True):
    """Keys of inputs that a partition's captures had, so that an owner to come counts each once; 128 rows at most."""

    __tablename__ = "seen_inputs"

    log_id: str = Field(primary_key=True)
    partition: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    chunk: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    keys: bytes


class ComparisonRow(Table, table=True):
    """One stored comparison; `day` is the UTC day of `received_at`, by which old ones are dropped.

    `observations` and `shadow_responses` run in parallel: bytes do not fit into `jsonb`.
    """

    __tablename__ = "comparison"
    __table_args__: ClassVar[Any] = (
        Index("ix_comparison_epoch_id", "epoch_id"),
        {"postgresql_partition_by": "RANGE (day)"},
    )

    day: date = Field(primary_key=True)
    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": True})
    epoch_id: int = Field(foreign_key="epoch.id", sa_type=BigInteger)
    request_id: str
    session_id: str
    method: str
    revision: int = Field(sa_type=BigInteger)
    received_at: datetime = Field(sa_type=MOMENT)
    attributes: dict[str, Any] = Field(sa_type=JSONB)
    request: bytes
    status_code: int
    status_message: str
    response: bytes
    live_latency: float
    observations: list[dict[str, Any]] = Field(sa_type=JSONB)
    shadow_responses: list[bytes] = Field(sa_type=ARRAY(LargeBinary()))
    kept_because: str


class AnswerRow(Table, table=True):
    """The answers to one request, kept to be labelled; `day` is the UTC day of `received_at`.

    `observations` and `responses` run in parallel. Request ids are the callers': one that is used twice has two rows,
    of which the first counts.
    """

    __tablename__ = "answer"
    __table_args__: ClassVar[Any] = (
        Index("ix_answer_model_request_id", "model", "request_id"),
        {"postgresql_partition_by": "RANGE (day)"},
    )

    day: date = Field(primary_key=True)
    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": True})
    model: str
    request_id: str
    epoch_id: int = Field(foreign_key="epoch.id", sa_type=BigInteger)
    received_at: datetime = Field(sa_type=MOMENT)
    live: bytes
    observations: list[dict[str, Any]] = Field(sa_type=JSONB)
    responses: list[bytes] = Field(sa_type=ARRAY(LargeBinary()))


class LabelRow(Table, table=True):
    """A request's label. It waits for its request while it has no epoch; `marks` is what it counts for."""

    __tablename__ = "label"
    __table_args__ = (
        CheckConstraint("num_nulls(epoch_id, bucket_start, marks) IN (0, 3)", name="counted"),
        Index("ix_label_waiting", "model", "recorded_at", postgresql_where=text("epoch_id IS NULL")),
        Index("ix_label_model_recorded_at", "model", "recorded_at"),
    )

    model: str = Field(primary_key=True, foreign_key="model.name")
    request_id: str = Field(primary_key=True)
    value: Any = Field(sa_type=JSONB)
    recorded_at: datetime = Field(sa_type=MOMENT)
    recorded_by: str
    epoch_id: int | None = Field(default=None, foreign_key="epoch.id", sa_type=BigInteger)
    bucket_start: datetime | None = Field(default=None, sa_type=MOMENT)
    marks: list[dict[str, Any]] | None = Field(default=None, sa_type=JSONB(none_as_null=True))


class LabelTallyRow(Table, table=True):
    """How many of a model's labels came to what, since its first."""

    __tablename__ = "label_tally"

    model: str = Field(primary_key=True, foreign_key="model.name")
    what: str = Field(primary_key=True)
    n: int = Field(sa_type=BigInteger)


class ReviewRow(Table, table=True):
    """What somebody said of one candidate's answer in a stored comparison; it outlives the comparison."""

    __tablename__ = "review"
    __table_args__ = (Index("ix_review_epoch_id", "epoch_id"),)

    comparison_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    version: str = Field(primary_key=True)
    epoch_id: int = Field(foreign_key="epoch.id", sa_type=BigInteger)
    verdict: str
    reviewed_by: str
    reviewed_at: datetime = Field(sa_type=MOMENT)


class PromotionRow(Table, table=True):
    """A promotion, with the flags as they were before it."""

    __tablename__ = "promotion"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version"], ["version.model", "version.name"]),
        ForeignKeyConstraint(["model", "previous"], ["version.model", "version.name"]),
        Index("ix_promotion_standing", "model", "id", postgresql_where=text("rolled_back_revision IS NULL")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    model: str
    version: str
    previous: str
    flags_before: dict[str, Any] = Field(sa_type=JSONB)
    revision: int = Field(sa_type=BigInteger)
    promoted_at: datetime = Field(sa_type=MOMENT)
    promoted_by: str
    rolled_back_revision: int | None = Field(default=None, sa_type=BigInteger)


class RolloutRow(Table, table=True):
    """A staged promotion. `turn` grows with every change: who decided by an older one decided too late."""

    __tablename__ = "rollout"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version"], ["version.model", "version.name"]),
        ForeignKeyConstraint(["model", "previous"], ["version.model", "version.name"]),
        CheckConstraint("(state IN ('running', 'paused')) = (ended_at IS NULL)", name="ended"),
        Index("ix_rollout_model_id", "model", "id"),
        Index("uq_rollout_running", "model", unique=True, postgresql_where=text("ended_at IS NULL")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    model: str
    version: str
    previous: str
    address: str
    plan: str
    terms: dict[str, Any] = Field(sa_type=JSONB)
    state: str
    stage: int
    first_revision: int = Field(sa_type=BigInteger)
    stage_revision: int = Field(sa_type=BigInteger)
    entered_at: datetime = Field(sa_type=MOMENT)
    setbacks: int
    turn: int = Field(sa_type=BigInteger)
    baseline: dict[str, Any] = Field(sa_type=JSONB)
    started_at: datetime = Field(sa_type=MOMENT)
    started_by: str
    reason: str
    changed_by: str
    note: str
    ended_at: datetime | None = Field(default=None, sa_type=MOMENT)


class RolloutEventRow(Table, table=True):
    """What happened to a rollout, with the guardrails that it was decided by."""

    __tablename__ = "rollout_event"
    __table_args__ = (Index("ix_rollout_event_rollout_id", "rollout_id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    rollout_id: int = Field(foreign_key="rollout.id", sa_type=BigInteger)
    at: datetime = Field(sa_type=MOMENT)
    actor: str
    move: str
    percent: float
    revision: int = Field(sa_type=BigInteger)
    why: str
    findings: list[dict[str, Any]] = Field(sa_type=JSONB)


class LiveCountRow(Table, table=True):
    """What one run of one router counted of the live requests that a revision chose a version for, since it began."""

    __tablename__ = "live_count"
    # Rows are updated in place every second: room on the page keeps these updates out of the index (HOT).
    __table_args__: ClassVar[Any] = {"postgresql_with": {"fillfactor": "70"}}

    model: str = Field(primary_key=True)
    revision: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    version: str = Field(primary_key=True)
    run: str = Field(primary_key=True)
    requests: int = Field(sa_type=BigInteger)
    failed: int = Field(sa_type=BigInteger)
    covered: int = Field(sa_type=BigInteger)
    latencies: dict[str, int] = Field(sa_type=JSONB)
    first_at: datetime = Field(sa_type=MOMENT)
    seen_at: datetime = Field(sa_type=MOMENT)


class GateRecordRow(Table, table=True):
    """An attestation, or a waiver of a gate. A trigger refuses to update, delete or truncate it."""

    __tablename__ = "gate_record"
    __table_args__ = (Index("ix_gate_record_epoch_id", "epoch_id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    epoch_id: int = Field(foreign_key="epoch.id", sa_type=BigInteger)
    version: str
    subject: str
    waiver: bool
    text: str
    by: str
    at: datetime = Field(sa_type=MOMENT)


class AuditRow(Table, table=True):
    """One line of the audit log. A trigger refuses to update, delete or truncate it."""

    __tablename__ = "audit_log"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=MOMENT)
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(sa_type=JSONB)


class ProcessRow(Table, table=True):
    """What a process last said of itself."""

    __tablename__ = "process"

    role: str = Field(primary_key=True)
    instance: str = Field(primary_key=True)
    host: str
    pid: int
    started_at: datetime = Field(sa_type=MOMENT)
    revision: int = Field(sa_type=BigInteger)
    counters: dict[str, int] = Field(sa_type=JSONB)
    seen_at: datetime = Field(sa_type=MOMENT)
    # Of routers that read flags elsewhere. The default lets processes of the release before go on reporting.
    flag_source: str = Field(default="", sa_column_kwargs={"server_default": ""})
