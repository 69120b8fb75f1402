"""Schedules of experiments: the ramp of their share, the hours in which they shadow, and how far they have come.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Absent for experiments that began before: they have their whole share, at all hours.
    for name in ("schedule", "progress"):
        op.add_column("experiment", sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    for name in ("progress", "schedule"):
        op.drop_column("experiment", name)
