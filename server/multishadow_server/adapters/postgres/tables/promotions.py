"""Promotions, staged rollouts, and the live counts that they are judged by."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


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
