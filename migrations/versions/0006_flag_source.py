"""Where routers read their flags.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("process", sa.Column("flag_source", sa.String(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("process", "flag_source")
