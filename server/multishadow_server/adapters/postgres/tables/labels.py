"""Answers kept to be labelled, labels, and reviews."""

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
    # By which a person's answers are found to be erased. The defaults are those of rows of the release before.
    session_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    payloads: str = Field(default="full", sa_column_kwargs={"server_default": "full"})


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
