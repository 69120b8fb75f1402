"""What keeps comparisons honest: seen inputs, the share of the live version's copies, what reports are cut by.

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
    op.add_column("model", sa.Column("segments", sa.ARRAY(sa.String()), nullable=False, server_default="{}"))
    op.alter_column("model", "segments", server_default=None)
    for table in ("experiment", "epoch"):
        op.add_column(table, sa.Column("noise_percent", sa.Float(), nullable=False, server_default="0"))
        op.alter_column(table, "noise_percent", server_default=None)


def downgrade() -> None:
    for table in ("epoch", "experiment"):
        op.drop_column(table, "noise_percent")
    op.drop_column("model", "segments")
    op.drop_table("seen_inputs")
