"""The schema's history."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import migrate
from multishadow_server.adapters.postgres.engine import driver_url
from multishadow_server.adapters.postgres.migration import alembic_config
from multishadow_server.errors import InvalidInput, StoreUnavailable
from store_fixtures import rows
from waiting import until_sync

TABLES = "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname"


def on(database_url: str, run: Callable[[Config], None]) -> None:
    """Run an alembic command on a database."""
    engine = create_engine(driver_url(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        run(alembic_config(connection))


def test_the_migrations_make_what_the_tables_say(database_url: str) -> None:
    on(database_url, command.check)


def test_a_column_that_the_migrations_did_not_make_is_noticed(database_url: str) -> None:
    with create_engine(driver_url(database_url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("ALTER TABLE process DROP COLUMN pid")
    with pytest.raises(Exception, match="New upgrade operations detected"):
        on(database_url, command.check)


def test_every_migration_can_be_taken_back_and_made_again(postgres: EmbeddedPostgres) -> None:
    url = postgres.create_database("back_and_forth")
    migrate(url)
    made = rows(url, TABLES)
    on(url, lambda config: command.downgrade(config, "base"))
    assert [name for name, kind in rows(url, TABLES) if kind in {"r", "p", "S"}] == ["alembic_version"]
    assert rows(url, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    migrate(url)
    assert rows(url, TABLES) == made


def test_several_processes_may_migrate_at_once(postgres: EmbeddedPostgres) -> None:
    url = postgres.create_database("migrated_by_many")
    program = "import sys; from multishadow_server.adapters.postgres.migration import migrate; migrate(sys.argv[1])"

    def in_a_process(_: int) -> int:
        return subprocess.run([sys.executable, "-W", "error", "-c", program, url], check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(in_a_process, range(4))) == [0, 0, 0, 0]
    assert rows(url, "SELECT id, revision FROM configuration_revision") == [(1, 0)]


def test_threads_of_one_process_may_migrate_at_once(postgres: EmbeddedPostgres) -> None:
    urls = [postgres.create_database(f"migrated_by_threads_{n % 2}") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(migrate, urls)) == [None] * 4
    assert all(rows(url, "SELECT revision FROM configuration_revision") == [(0,)] for url in urls)


def test_a_migration_that_fails_leaves_the_database_as_it_was(postgres: EmbeddedPostgres) -> None:
    url = postgres.create_database("half_taken")
    with create_engine(driver_url(url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE version (theirs int)")
    with pytest.raises(Exception, match="already exists"):
        migrate(url)
    assert [name for name, kind in rows(url, TABLES) if kind == "r"] == ["version"]


def test_the_alembic_command_finds_its_database_in_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTISHADOW_DATABASE_URL", database_url)
    assert alembic("check").returncode == 0


def test_the_alembic_command_takes_its_database_as_an_argument(database_url: str) -> None:
    assert alembic("-x", f"url={database_url}", "check").returncode == 0


def test_the_alembic_command_without_a_database_says_how_to_give_one() -> None:
    done = alembic("check")
    assert done.returncode != 0
    assert "set MULTISHADOW_DATABASE_URL" in done.stderr


def alembic(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the checkout."""
    checkout = Path(__file__).parents[2]
    program = Path(sys.executable).with_name("alembic")
    return subprocess.run([program, *arguments], cwd=checkout, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("url", ["", "no url", "mysql://root@127.0.0.1/shop", "postgresql://127.0.0.1"])
def test_what_is_no_database_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="postgresql://user:password@host:5432/database"):
        migrate(url)


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable) as refused:
        migrate("postgresql://ada:hunter2@127.0.0.1:1/multishadow")
    assert "127.0.0.1:1/multishadow" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_migrated_databases_have_days_for_a_week_of_comparisons(database_url: str) -> None:
    days = rows(database_url, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'comparison'::regclass")
    assert days == [(1 + 9,)]  # the default partition; yesterday, today, and seven days ahead


def test_connections_are_closed_when_the_migration_is_done(postgres: EmbeddedPostgres, database_url: str) -> None:
    migrate(database_url)
    name = driver_url(database_url).database
    left = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'multishadow' AND datname = '{name}'"
    # A session is listed until its process has ended, a moment after its client has left.
    until_sync(lambda: rows(postgres.url("postgres"), left) == [(0,)])
