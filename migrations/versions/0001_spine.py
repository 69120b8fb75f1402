"""The spine: models, flags, experiments, rollups, stored comparisons, audit.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

REFUSE_CHANGE = """
CREATE FUNCTION audit_log_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only appended to: % refused', TG_OP;
END $$
"""
APPEND_ONLY = """
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse_change()
"""


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "configuration_revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_configuration_revision_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration_revision")),
    )
    op.create_table(
        "flag_revision",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", "revision", name=op.f("pk_flag_revision")),
    )
    op.create_table(
        "model",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("comparator", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("default_timeout", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_model")),
    )
    op.create_table(
        "partition_offset",
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.CheckConstraint('"offset" > 0', name=op.f("ck_partition_offset_offset")),
        sa.PrimaryKeyConstraint("log_id", "partition", name=op.f("pk_partition_offset")),
    )
    op.create_table(
        "process",
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("counters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", "instance", name=op.f("pk_process")),
    )
    op.create_table(
        "experiment",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("candidates", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("bucket_seconds", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_by", sa.String(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_reason", sa.String(), nullable=False),
        sa.CheckConstraint("bucket_seconds > 0", name=op.f("ck_experiment_bucket_seconds")),
        sa.CheckConstraint("percent > 0 AND percent <= 100", name=op.f("ck_experiment_percent")),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_experiment_model_model")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment")),
    )
    op.create_index("ix_experiment_model_id", "experiment", ["model", "id"], unique=False)
    op.create_index(
        "uq_experiment_running", "experiment", ["model"], unique=True, postgresql_where=sa.text("stopped_at IS NULL")
    )
    op.create_table(
        "flag",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key", "revision"],
            ["flag_revision.key", "flag_revision.revision"],
            name=op.f("fk_flag_key_revision_flag_revision"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_flag")),
    )
    op.create_table(
        "version",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("timeout", sa.Float(), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_version_model_model")),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_version")),
        sa.UniqueConstraint("model", "ordinal", name=op.f("uq_version_model_ordinal")),
    )
    op.create_table(
        "epoch",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("live", sa.String(), nullable=False),
        sa.Column("candidates", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("comparator", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("from_revision", sa.BigInteger(), nullable=False),
        sa.Column("until_revision", sa.BigInteger(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.CheckConstraint("(until_revision IS NULL) = (closed_at IS NULL)", name=op.f("ck_epoch_closed")),
        sa.CheckConstraint("until_revision >= from_revision", name=op.f("ck_epoch_revisions")),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"], name=op.f("fk_epoch_experiment_id_experiment")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_epoch")),
        sa.UniqueConstraint("experiment_id", "number", name=op.f("uq_epoch_experiment_id_number")),
    )
    op.create_index("ix_epoch_closed_at", "epoch", ["closed_at"], unique=False)
    op.create_table(
        "promotion",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("flags_before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("promoted_by", sa.String(), nullable=False),
        sa.Column("rolled_back_revision", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model", "previous"], ["version.model", "version.name"], name=op.f("fk_promotion_model_previous_version")
        ),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["version.model", "version.name"], name=op.f("fk_promotion_model_version_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
    )
    op.create_index(
        "ix_promotion_standing",
        "promotion",
        ["model", "id"],
        unique=False,
        postgresql_where=sa.text("rolled_back_revision IS NULL"),
    )
    op.create_table(
        "comparison",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("epoch_id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attributes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("status_message", sa.String(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("live_latency", sa.Float(), nullable=False),
        sa.Column("observations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("shadow_responses", sa.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("kept_because", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["epoch_id"], ["epoch.id"], name=op.f("fk_comparison_epoch_id_epoch")),
        sa.PrimaryKeyConstraint("day", "id", name=op.f("pk_comparison")),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_table(
        "rollup",
        sa.Column("epoch_id", sa.BigInteger(), nullable=False),
        sa.Column("bucket_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("family", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("n", sa.Numeric(precision=39, scale=0), nullable=False),
        sa.ForeignKeyConstraint(["epoch_id"], ["epoch.id"], name=op.f("fk_rollup_epoch_id_epoch")),
        sa.PrimaryKeyConstraint("epoch_id", "bucket_start", "family", "subject", "level", name=op.f("pk_rollup")),
        postgresql_with={"fillfactor": "70"},
    )
    op.execute("INSERT INTO configuration_revision (id, revision) VALUES (1, 0)")
    # Takes the days that nobody made a partition for in time, so that no flush ever fails for the lack of one.
    op.execute("CREATE TABLE comparison_default PARTITION OF comparison DEFAULT")
    op.execute(REFUSE_CHANGE)
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.drop_table("rollup")
    op.drop_table("comparison")
    op.drop_table("promotion")
    op.drop_table("epoch")
    op.drop_table("version")
    op.drop_table("flag")
    op.drop_table("experiment")
    op.drop_table("process")
    op.drop_table("partition_offset")
    op.drop_table("model")
    op.drop_table("flag_revision")
    op.drop_table("configuration_revision")
    op.drop_table("audit_log")
    op.execute("DROP FUNCTION audit_log_refuse_change()")
