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


def upgrade() -> None:
    # The defaults stay: a control of the release before registers versions meanwhile.
    op.add_column("version", sa.Column("served_name", sa.String(), nullable=False, server_default=""))
    op.add_column("version", sa.Column("served_version", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("version", "served_version")
    op.drop_column("version", "served_name")
