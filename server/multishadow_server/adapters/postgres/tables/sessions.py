"""Sessions that may still go on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, LargeBinary
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class OpenSessionRow(Table, table=True):
    """One session of a log's partition, with the turns that were counted of it; 10,000 rows of a partition at most."""

    __tablename__ = "open_session"
    # A commit rewrites the rows of the sessions that it touched: room on the page keeps that out of the index (HOT).
    __table_args__: ClassVar[Any] = {"postgresql_with": {"fillfactor": "70"}}

    log_id: str = Field(primary_key=True)
    partition: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    model: str = Field(primary_key=True)
    # A caller's words, of which PostgreSQL's text cannot hold all.
    session_id: bytes = Field(primary_key=True, sa_type=LargeBinary)
    epoch_id: int = Field(sa_type=BigInteger)
    last_at: datetime = Field(sa_type=MOMENT)
    state: dict[str, Any] = Field(sa_type=JSONB)


class SessionClockRow(Table, table=True):
    """The time of a log's partition, by which its sessions end: seconds since the Unix epoch, as they were captured."""

    __tablename__ = "session_clock"

    log_id: str = Field(primary_key=True)
    partition: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    time: float
