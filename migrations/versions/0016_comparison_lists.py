"""Indexes that lists of stored comparisons are walked by, one for each order.

A partition that holds rows already gets its part of an index without holding up those who write: not here, since
migrations are one transaction, but once it is committed; see `adapters/postgres/partition_indexes.py`.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# What `core.comparison_lists` calls similarity_of and latency_of, so that indexes know them. They ask for a number
# before they take one: an odd row must not keep a worker's whole micro-batch out.
_SIMILARITY = """
CREATE FUNCTION comparison_similarity(observations jsonb) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(min(CASE WHEN jsonb_typeof(seen -> 'similarity') = 'number'
                             THEN CAST(seen ->> 'similarity' AS double precision) END), 'Infinity')
    FROM jsonb_array_elements(observations) AS seen
    WHERE seen ->> 'outcome' IN ('ok', 'diverged')
$$
"""
_LATENCY = """
CREATE FUNCTION comparison_latency(observations jsonb) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(max(CASE WHEN seen ->> 'outcome' = 'timeout' THEN 'Infinity'
                             WHEN jsonb_typeof(seen -> 'latency') = 'number'
                             THEN CAST(seen ->> 'latency' AS double precision) END), '-Infinity')
    FROM jsonb_array_elements(observations) AS seen
$$
"""
_INDEXES = {
    "ix_comparison_similarity": "epoch_id, kept_because, comparison_similarity(observations), id",
    "ix_comparison_latency": "epoch_id, kept_because, comparison_latency(observations), id",
    "ix_comparison_received_at": "epoch_id, kept_because, received_at, id",
    "ix_comparison_session_id": "epoch_id, left(session_id, 256), received_at",
    "ix_comparison_id": "id",
}


def upgrade() -> None:
    op.execute(_SIMILARITY)
    op.execute(_LATENCY)
    for name, columns in _INDEXES.items():
        # Of the whole table, but of none of its partitions: that takes no time, whatever they hold.
        op.execute(f"CREATE INDEX {name} ON ONLY comparison ({columns})")


def downgrade() -> None:
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("DROP FUNCTION comparison_similarity(jsonb)")
    op.execute("DROP FUNCTION comparison_latency(jsonb)")
