"""Flags that are no version's may be deleted; their history stays, and says so.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    op.alter_column("flag_revision", "definition", existing_type=JSONB, nullable=True)
    op.create_index("ix_flag_revision_revision", "flag_revision", ["revision"], unique=False)


def downgrade() -> None:
    # Deleted flags have no row in `flag` that would refer to these.
    op.execute("DELETE FROM flag_revision WHERE definition IS NULL")
    op.drop_index("ix_flag_revision_revision", table_name="flag_revision")
    op.alter_column("flag_revision", "definition", existing_type=JSONB, nullable=False)
