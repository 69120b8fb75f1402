"""Privacy terms of models, in which form comparisons and answers are stored, and the key of hashes.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model", sa.Column("privacy", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    # Constant defaults rewrite no row, and workers of the release before go on without these columns.
    for table in ("comparison", "answer"):
        op.add_column(table, sa.Column("payloads", sa.String(), server_default="full", nullable=False))
    op.add_column("answer", sa.Column("session_id", sa.String(), server_default="", nullable=False))
    op.create_table(
        "hash_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_hash_key_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hash_key")),
    )


def downgrade() -> None:
    op.drop_table("hash_key")
    op.drop_column("answer", "session_id")
    for table in ("comparison", "answer"):
        op.drop_column(table, "payloads")
    op.drop_column("model", "privacy")
