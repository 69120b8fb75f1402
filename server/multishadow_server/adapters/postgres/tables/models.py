"""Models and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, NAME_LIST, Table


class ModelRow(Table, table=True):
    """A model's own settings."""

    __tablename__ = "model"

    name: str = Field(primary_key=True)
    comparator: dict[str, Any] = Field(sa_type=JSONB)
    default_timeout: float
    labels: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    segments: list[str] = Field(sa_type=NAME_LIST)
    gates: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    privacy: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    max_request_bytes: int | None = Field(default=None, sa_type=BigInteger)
    writes: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    sessions: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    probes: list[dict[str, Any]] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    dead_letters: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    cost: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
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
    served_name: str = Field(default="", sa_column_kwargs={"server_default": ""})
    served_version: str = Field(default="", sa_column_kwargs={"server_default": ""})
    limits: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    pause: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    created_at: datetime = Field(sa_type=MOMENT)
