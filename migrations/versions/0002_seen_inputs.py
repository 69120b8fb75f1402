"""What keeps comparisons honest: inputs that a partition's captures had, and the share of the live version's copies.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "seen_inputs",
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("chunk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("keys", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "partition", "chunk", name=op.f("pk_seen_inputs")),
    )
    for table in ("experiment", "epoch"):
        op.add_column(table, sa.Column("noise_percent", sa.Float(), nullable=False, server_default="0"))
        op.alter_column(table, "noise_percent", server_default=None)


def downgrade() -> None:
    for table in ("epoch", "experiment"):
        op.drop_column(table, "noise_percent")
    op.drop_table("seen_inputs")
