"""Gates: their limits by model, and what people put on record.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

REFUSE_CHANGE = """
CREATE FUNCTION gate_record_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'attestations and waivers are kept for ever: % refused', TG_OP;
END $$
"""
APPEND_ONLY = """
CREATE TRIGGER gate_record_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gate_record
FOR EACH STATEMENT EXECUTE FUNCTION gate_record_refuse_change()
"""


def upgrade() -> None:
    op.add_column("model", sa.Column("gates", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_table(
        "gate_record",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("epoch_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("waiver", sa.Boolean(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["epoch_id"], ["epoch.id"], name=op.f("fk_gate_record_epoch_id_epoch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_record")),
    )
    op.create_index("ix_gate_record_epoch_id", "gate_record", ["epoch_id"], unique=False)
    op.execute(REFUSE_CHANGE)
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.drop_table("gate_record")
    op.execute("DROP FUNCTION gate_record_refuse_change()")
    op.drop_column("model", "gates")
