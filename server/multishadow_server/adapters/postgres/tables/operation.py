"""The processes that run, and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Index,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class AuditRow(Table, table=True):
    """One line of the audit log. A trigger refuses to update, delete or truncate it."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_at", "at"), Index("ix_audit_log_subject_id", "subject", "id"))

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
    # Likewise: the version of the program.
    program: str = Field(default="", sa_column_kwargs={"server_default": ""})
