"""Limits and pauses of versions, and which requests of a model write.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model", sa.Column("max_request_bytes", sa.BigInteger(), nullable=True))
    op.add_column("model", sa.Column("writes", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("version", sa.Column("limits", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("version", sa.Column("pause", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("version", "pause")
    op.drop_column("version", "limits")
    op.drop_column("model", "writes")
    op.drop_column("model", "max_request_bytes")
