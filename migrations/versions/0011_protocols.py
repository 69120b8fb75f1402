"""What a version's server calls the model.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = ("served_name", "served_version")


def upgrade() -> None:
    for name in COLUMNS:
        # The default stays: a control of the former version registers versions meanwhile.
        op.add_column("version", sa.Column(name, sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("version", name)
