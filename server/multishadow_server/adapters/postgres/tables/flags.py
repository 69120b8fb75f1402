"""The configuration's revision, and flags with every definition that they had."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class ConfigurationRevisionRow(Table, table=True):
    """The present revision: one row, whose lock is the lock of a change."""

    __tablename__ = "configuration_revision"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    revision: int = Field(sa_type=BigInteger)


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
