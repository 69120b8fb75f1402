"""Migrations can be made while roles of the release before go on: docs/deployment.md, "Upgrades"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migration_rules import problems
from multishadow_server.adapters.postgres.migration import migrations_folder
from multishadow_server.adapters.postgres.schema import Standing, revisions, standing

# Before there was a release that could be upgraded from.
FIRST_HELD = "0009"
FILES = sorted((migrations_folder() / "versions").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_roles_of_the_release_before_can_go_on_while_it_is_made(file: Path) -> None:
    if file.stem >= FIRST_HELD:
        assert problems(file.read_text()) == []


def upgrade(*lines: str, contract: str = "") -> str:
    head = f'CONTRACT = "{contract}"\n' if contract else ""
    return head + "def upgrade() -> None:\n" + "".join(f"    {line}\n" for line in lines) + "\ndef downgrade(): ...\n"


@pytest.mark.parametrize(
    "line",
    [
        'op.add_column("model", sa.Column("kind", sa.String(), nullable=True))',
        'op.add_column("model", sa.Column("kind", sa.String(), nullable=False, server_default=""))',
        'op.create_index("ix_process_host", "process", ["host"])',
        'op.create_index("ix", "rollup", ["level"], postgresql_concurrently=True)',
        'op.create_check_constraint("ck", "label", "true", postgresql_not_valid=True)',
        'op.alter_column("model", "segments", nullable=True)',
        'op.drop_constraint("ck_model_kind", "model")',
        'op.execute("INSERT INTO label_tally SELECT 1")',
    ],
)
def test_what_only_adds_is_allowed(line: str) -> None:
    assert problems(upgrade(line)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('op.drop_column("model", "segments")', "still uses it"),
        ('op.drop_table("label")', "still uses it"),
        ('op.rename_table("label", "truth")', "still uses it"),
        ('op.add_column("model", sa.Column("kind", sa.String(), nullable=False))', "model.kind: .* server_default"),
        (
            'op.add_column("model", sa.Column("k", sa.Uuid(), server_default=sa.text("gen_random_uuid()")))',
            "rewrites the table",
        ),
        ('op.alter_column("model", "segments", server_default=None)', "need its default"),
        ('op.alter_column("model", "segments", nullable=False)', "NOT NULL"),
        ('op.alter_column("model", "segments", type_=sa.Text())', "type_"),
        ('op.alter_column("model", "segments", new_column_name="cuts")', "new_column_name"),
        ('op.create_index("ix", "rollup", ["level"])', "postgresql_concurrently"),
        ('op.create_foreign_key("fk", "label", "epoch", ["epoch_id"], ["id"])', "postgresql_not_valid"),
        ('op.execute("ALTER TABLE model DROP COLUMN segments")', "still uses"),
        ('op.execute("ALTER TABLE model ALTER COLUMN name TYPE text")', "still uses"),
        ('op.execute("VACUUM FULL rollup")', "holds a table"),
    ],
)
def test_what_the_release_before_would_notice_is_refused(line: str, said: str) -> None:
    (problem,) = problems(upgrade("pass", line))
    assert re.match(rf"line 3: .*{said}", problem)


def test_a_table_that_the_migration_makes_itself_is_its_own() -> None:
    lines = 'op.create_table("rollup", sa.Column("id"))', 'op.create_index("ix", "rollup", ["id"])'
    assert problems(upgrade(*lines)) == []


def test_what_nobody_uses_any_more_is_dropped_with_a_reason() -> None:
    line = 'op.drop_column("model", "segments")'
    assert problems(upgrade(line, contract="unused since 0.9")) == []


# --- revisions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected", "usable"),
    [
        ("", Standing.MISSING, False),
        ("0001", Standing.OLDER, False),
        ("0003", Standing.CURRENT, True),
        ("0004", Standing.NEWER, True),
    ],
)
def test_a_schema_is_known_by_the_chain_of_migrations(found: str, expected: Standing, usable: bool) -> None:
    schema = standing(found, ("0003", "0002", "0001"))
    assert (schema.standing, schema.usable) == (expected, usable)
    assert ("`multishadow migrate`" in str(schema)) is not usable


def test_the_programs_own_chain_begins_at_its_newest_migration() -> None:
    assert len(revisions()) == len(FILES)
    assert revisions()[-1] == "0001"
