"""Experiments, their epochs, what was counted of them, and what people said of their gates."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import COUNT, MOMENT, NAME_LIST, Table


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
