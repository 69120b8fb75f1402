"""Webhooks, and the outbox of what is sent to them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, NAME_LIST, Table


class WebhookRow(Table, table=True):
    """A receiver. Its secrets are here as they are: who signs needs them, a digest would not do."""

    __tablename__ = "webhook"
    __table_args__ = (
        CheckConstraint("(former_secret = '') = (former_until IS NULL)", name="former"),
        Index("uq_webhook_name", "name", unique=True),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": True})
    name: str
    url: str
    events: list[str] = Field(sa_type=NAME_LIST)
    models: list[str] = Field(sa_type=NAME_LIST)
    secret: str
    created_by: str
    created_at: datetime = Field(sa_type=MOMENT)
    former_secret: str = ""
    former_until: datetime | None = Field(default=None, sa_type=MOMENT)


class WebhookMessageRow(Table, table=True):
    """Something that receivers are told: `body` is sent to each of them, byte for byte.

    `once` makes an event that several processes notice, or one notices again and again, be told once.
    """

    __tablename__ = "webhook_message"
    __table_args__ = (
        Index("uq_webhook_message_once", "once", unique=True),
        Index("ix_webhook_message_created_at", "created_at"),
    )

    id: str = Field(primary_key=True)
    event: str
    model: str
    body: str
    created_at: datetime = Field(sa_type=MOMENT)
    once: str | None = None


class WebhookDeliveryRow(Table, table=True):
    """One message on its way to one receiver.

    A waiting one is due at `next_attempt_at`; who takes it moves that on by the longest that an attempt may last, and
    marks it as its `claim`. `status`, `detail` and `response` are those of the last attempt.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'delivered', 'parked')", name="state"),
        CheckConstraint("(state = 'waiting') = (next_attempt_at IS NOT NULL)", name="waiting"),
        Index("ix_webhook_delivery_due", "webhook_id", "next_attempt_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_webhook_delivery_webhook_id_id", "webhook_id", "id"),
        Index("ix_webhook_delivery_message_id", "message_id"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": True})
    webhook_id: int = Field(foreign_key="webhook.id", ondelete="CASCADE", sa_type=BigInteger)
    message_id: str = Field(foreign_key="webhook_message.id", ondelete="CASCADE")
    state: str
    attempts: int
    status: int | None = None
    detail: str = ""
    response: str = ""
    created_at: datetime = Field(sa_type=MOMENT)
    changed_at: datetime = Field(sa_type=MOMENT)
    next_attempt_at: datetime | None = Field(default=None, sa_type=MOMENT)
    claim: str = ""
