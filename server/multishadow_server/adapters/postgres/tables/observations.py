"""What workers leave beside the counts: how far they came, inputs that were seen, and stored comparisons."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Index,
    LargeBinary,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


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
        # Orders of lists; see `core.comparison_lists` and migration 0016, which makes the functions.
        Index(
            "ix_comparison_similarity", "epoch_id", "kept_because", text("comparison_similarity(observations)"), "id"
        ),
        Index("ix_comparison_latency", "epoch_id", "kept_because", text("comparison_latency(observations)"), "id"),
        Index("ix_comparison_received_at", "epoch_id", "kept_because", "received_at", "id"),
        # By their beginnings: an index holds no more than some kilobytes of a row.
        Index("ix_comparison_session_id", "epoch_id", text("left(session_id, 256)"), "received_at"),
        Index("ix_comparison_id", "id"),
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
    # In which form it is stored, see `core.privacy`. The default is that of rows of the release before.
    payloads: str = Field(default="full", sa_column_kwargs={"server_default": "full"})
