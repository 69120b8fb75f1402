"""Where routers read their flags.

Revision ID: 0005_flag_source
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_flag_source"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("process", sa.Column("flag_source", sa.String(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("process", "flag_source")
