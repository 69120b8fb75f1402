"""Shadow calls that failed, to be tried again or looked at."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    text,
)
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class DeadLetterRow(Table, table=True):
    """A shadow call that failed, or a message of the log that nobody can read.

    `payload` is a capture batch of one capture, as the log holds it, or the message's first bytes. A waiting letter is
    due at `next_attempt_at`; who takes it moves that on by the longest that an attempt may last, and marks it as its
    `claim`. `retry` names the request of somebody to try it again.
    """

    __tablename__ = "dead_letter"
    __table_args__ = (
        CheckConstraint("(state = 'waiting') = (next_attempt_at IS NOT NULL)", name="waiting"),
        Index("ix_dead_letter_model_id", "model", "id"),
        Index("ix_dead_letter_expires_at", "expires_at"),
        Index("ix_dead_letter_due", "model", "version", "next_attempt_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_dead_letter_retry", "retry", postgresql_where=text("retry <> ''")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": True})
    model: str
    version: str
    request_id: str
    session_id: str
    epoch_id: int | None = Field(default=None, sa_type=BigInteger)
    state: str
    attempts: int
    outcome: str
    reason: str
    detail: str
    similarity: float | None = None
    received_at: datetime | None = Field(default=None, sa_type=MOMENT)
    created_at: datetime = Field(sa_type=MOMENT)
    changed_at: datetime = Field(sa_type=MOMENT)
    next_attempt_at: datetime | None = Field(default=None, sa_type=MOMENT)
    expires_at: datetime = Field(sa_type=MOMENT)
    claim: str = ""
    retry: str = ""
    cut: bool
    payload: bytes
