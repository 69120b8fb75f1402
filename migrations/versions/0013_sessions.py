"""Models whose requests form sessions, and the sessions that may still go on.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model", sa.Column("sessions", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_table(
        "open_session",
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("session_id", sa.LargeBinary(), nullable=False),
        sa.Column("epoch_id", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "partition", "model", "session_id", name=op.f("pk_open_session")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "session_clock",
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "partition", name=op.f("pk_session_clock")),
    )


def downgrade() -> None:
    op.drop_table("session_clock")
    op.drop_table("open_session")
    op.drop_column("model", "sessions")
