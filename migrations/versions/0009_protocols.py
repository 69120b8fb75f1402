"""What a version's server calls the model.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("served_name", "served_version")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("version", sa.Column(name, sa.String(), nullable=False, server_default=""))
        op.alter_column("version", name, server_default=None)


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("version", name)
