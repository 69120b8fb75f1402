"""Labels: answers kept by day until their label comes, labels, what they came to, and people's verdicts.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiment", sa.Column("rank_by", sa.String(), nullable=False, server_default="agreement"))
    op.alter_column("experiment", "rank_by", server_default=None)
    op.add_column("model", sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_table(
        "answer",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("epoch_id", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("live", sa.LargeBinary(), nullable=False),
        sa.Column("observations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("responses", sa.ARRAY(sa.LargeBinary()), nullable=False),
        sa.ForeignKeyConstraint(["epoch_id"], ["epoch.id"], name=op.f("fk_answer_epoch_id_epoch")),
        sa.PrimaryKeyConstraint("day", "id", name=op.f("pk_answer")),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index("ix_answer_model_request_id", "answer", ["model", "request_id"], unique=False)
    op.execute("CREATE TABLE answer_default PARTITION OF answer DEFAULT")
    op.create_table(
        "label",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("epoch_id", sa.BigInteger(), nullable=True),
        sa.Column("bucket_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("marks", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint("num_nulls(epoch_id, bucket_start, marks) IN (0, 3)", name=op.f("ck_label_counted")),
        sa.ForeignKeyConstraint(["epoch_id"], ["epoch.id"], name=op.f("fk_label_epoch_id_epoch")),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_label_model_model")),
        sa.PrimaryKeyConstraint("model", "request_id", name=op.f("pk_label")),
    )
    op.create_index("ix_label_model_recorded_at", "label", ["model", "recorded_at"], unique=False)
    op.create_index(
        "ix_label_waiting",
        "label",
        ["model", "recorded_at"],
        unique=False,
        postgresql_where=sa.text("epoch_id IS NULL"),
    )
    op.create_table(
        "label_tally",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_label_tally_model_model")),
        sa.PrimaryKeyConstraint("model", "what", name=op.f("pk_label_tally")),
    )
    op.create_table(
        "review",
        sa.Column("comparison_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("epoch_id", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reviewed_by", sa.String(), nullable=False),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["epoch_id"], ["epoch.id"], name=op.f("fk_review_epoch_id_epoch")),
        sa.PrimaryKeyConstraint("comparison_id", "version", name=op.f("pk_review")),
    )
    op.create_index("ix_review_epoch_id", "review", ["epoch_id"], unique=False)
    op.create_index("ix_comparison_epoch_id", "comparison", ["epoch_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_comparison_epoch_id", "comparison")
    op.drop_table("review")
    op.drop_table("label_tally")
    op.drop_table("label")
    op.drop_table("answer")
    op.drop_column("model", "labels")
    op.drop_column("experiment", "rank_by")
