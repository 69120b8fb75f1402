"""The version of the program that each process runs.

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty for processes of the release before, which go on reporting without it.
    op.add_column("process", sa.Column("program", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("process", "program")
