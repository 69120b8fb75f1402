"""Tokens for control."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class TokenRow(Table, table=True):
    """A token, without its secret: `digest` is the secret's SHA-256, `former_digest` that of the one before it."""

    __tablename__ = "api_token"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
        CheckConstraint("octet_length(digest) = 32", name="digest"),
        CheckConstraint("(former_digest IS NULL) = (former_until IS NULL)", name="former"),
        # Who did something is told by name: no two hold one at the same time.
        Index("uq_api_token_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    )

    id: str = Field(primary_key=True)
    name: str
    role: str
    digest: bytes
    created_by: str
    created_at: datetime = Field(sa_type=MOMENT)
    expires_at: datetime | None = Field(default=None, sa_type=MOMENT)
    rotated_at: datetime | None = Field(default=None, sa_type=MOMENT)
    former_digest: bytes | None = None
    former_until: datetime | None = Field(default=None, sa_type=MOMENT)
    last_used_at: datetime | None = Field(default=None, sa_type=MOMENT)
    revoked_at: datetime | None = Field(default=None, sa_type=MOMENT)
    revoked_by: str = ""
