"""What watches over comparisons: probes and what became of them, alarms, and the readings that alarms come from."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Index,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class ProbeStateRow(Table, table=True):
    """How one version stands with one probe; `claimed_at` is when some control last took it upon itself to ask."""

    __tablename__ = "probe_state"

    model: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    probe: str = Field(primary_key=True)
    claimed_at: datetime = Field(sa_type=MOMENT)
    state: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    answer: bytes = b""
    # A `changed_at` of the state, as exact as it stands there.
    settled_at: float | None = None


class ProbeChangeRow(Table, table=True):
    """One line of a probe's history."""

    __tablename__ = "probe_change"
    __table_args__ = (Index("ix_probe_change_model_version_probe_id", "model", "version", "probe", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    model: str
    version: str
    probe: str
    at: datetime = Field(sa_type=MOMENT)
    before: str
    after: str
    detail: str


class AlarmRow(Table, table=True):
    """An alarm, from when it was raised until it was cleared; one of a key is on at a time."""

    __tablename__ = "alarm"
    __table_args__ = (
        Index("uq_alarm_on", "kind", "model", "subject", unique=True, postgresql_where=text("cleared_at IS NULL")),
        Index("ix_alarm_cleared_at", "cleared_at"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    kind: str
    model: str
    subject: str
    detail: str
    raised_at: datetime = Field(sa_type=MOMENT)
    seen_at: datetime = Field(sa_type=MOMENT)
    cleared_at: datetime | None = Field(default=None, sa_type=MOMENT)
    acknowledged_at: datetime | None = Field(default=None, sa_type=MOMENT)
    acknowledged_by: str = ""
    note: str = ""


class WatchReadingRow(Table, table=True):
    """What was counted at a point in time; a minute or two of them are kept."""

    __tablename__ = "watch_reading"

    at: datetime = Field(primary_key=True, sa_type=MOMENT)
    reading: dict[str, Any] = Field(sa_type=JSONB)
