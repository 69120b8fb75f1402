"""Schema upgrades while roles run, and roles beside schemas that are not theirs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

import routers
from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import migrate, migration
from multishadow_server.adapters.postgres.engine import driver_url, translated
from multishadow_server.adapters.postgres.migration import alembic_config, upgrade
from multishadow_server.adapters.postgres.schema import revisions
from multishadow_server.adapters.postgres.tables import Table
from multishadow_server.app import router as router_role
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.ending import end
from multishadow_server.settings import Settings
from running_control import asked, control_address
from shadowed_traffic import LIVE, MODEL, Counts, begin_experiment, working
from store_fixtures import rows
from version_servers import answering, serving
from waiting import PATIENCE, until

# The next migration changes `model`.
WITHOUT_DEAD_LETTERS = "0014"
# Everything that tests/migration_rules.py allows, to every table there is.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "next", "{head}", None, None


def upgrade():
    for table in {tables}:
        op.add_column(table, sa.Column("of_the_next_release", sa.String(), nullable=True))
        op.add_column(table, sa.Column("counted_by_it", sa.BigInteger(), nullable=False, server_default="7"))
    op.create_table("made_by_it", sa.Column("model", sa.String(), sa.ForeignKey("model.name"), primary_key=True))
    op.create_index("ix_of_it", "process", ["of_the_next_release"])
    op.create_check_constraint("ck_of_it", "rollup", "n is not null", postgresql_not_valid=True)


def downgrade():
    pass
"""


def next_release(folder: Path) -> Callable[[Connection], Config]:
    """The migrations of the release after this one."""
    source = NEXT.format(head=revisions()[0], tables=sorted(Table.metadata.tables))
    (folder / "next.py").write_text(source)

    def configured(connection: Connection) -> Config:
        config = alembic_config(connection)
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{migration.migrations_folder() / 'versions'}\n{folder}")
        return config

    return configured


def database(database_url: str) -> Engine:
    return create_engine(driver_url(database_url, limits=False), poolclass=NullPool)


def downgraded(database_url: str, to: str = "-1") -> None:
    """Take the newest migration back, or all that came after one."""
    with database(database_url).begin() as connection:
        command.downgrade(alembic_config(connection), to)


@asynccontextmanager
async def called(database_url: str, nats_url: str, log_name: str) -> AsyncIterator[tuple[routers.Caller, Counts]]:
    """A router in front of a live version and a shadow, in an experiment."""
    async with serving(answering()) as live, serving(answering()) as shadow:
        epoch = await begin_experiment(database_url, {LIVE: live.address, "A": shadow.address})
        for name, claim in ((LIVE, Claim.LIVE), ("A", Claim.SHADOW)):
            await routers.set_flag(database_url, f"{MODEL}.{name}", claim_definition(MODEL, claim))
        counts = Counts(database_url, epoch)
        async with routers.router(database_url, nats_url, log_name, log_partitions=2, flush_interval=0.02) as caller:
            yield caller, counts
        await counts.aclose()


async def test_the_next_releases_migration_is_made_under_traffic_and_nothing_is_lost(
    database_url: str, nats_url: str, log_name: str, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=2, worker_linger=0.05,
        report_interval=0.05,
    )  # fmt: skip
    answered = 0
    done = asyncio.Event()

    async def call(caller: routers.Caller) -> None:
        nonlocal answered
        while not done.is_set():
            await caller.predict(routers.a_request(request_id=f"r-{answered}", text=f"text {answered}"))
            answered += 1

    async with (
        called(database_url, nats_url, log_name) as (caller, counts),
        control_address(database_url) as address,
        asked(address) as control,
    ):
        async with working(settings):
            calling = asyncio.create_task(call(caller))
            await until(lambda: answered > 100)
            await asyncio.to_thread(upgrade, database(database_url), next_release(tmp_path))
            so_far = answered
            await until(lambda: answered > so_far + 100)
            # Control of this release goes on writing, too.
            await control.apply("base", "A", "B", model="other")
            await control.set_flag("A", pb.CLAIM_OFF, model="other")
        async with working(settings, instance="begun-after-the-upgrade"):
            done.set()
            await calling
            await counts.reach(answered)
        assert await counts.by_version() == {"A": answered}
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [("next",)]
    assert rows(database_url, "SELECT DISTINCT counted_by_it FROM rollup") == [(7,)]


async def test_roles_begun_before_the_migration_wait_for_it_and_say_so(
    database_url: str, nats_url: str, log_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(downgraded, database_url)
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, router_listen="127.0.0.1:0", drain_seconds=1
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    with caplog.at_level(logging.WARNING):
        router = asyncio.create_task(router_role.run(settings, stop, ready=lambda _: ready.set()))
        await until(lambda: f"this program needs {revisions()[0]}" in caplog.text)
        assert "run `multishadow migrate`" in caplog.text
        assert not ready.is_set()
        await asyncio.to_thread(migrate, database_url)
        await until(ready.is_set)
    stop.set()
    await router


async def test_a_role_that_waits_for_the_schema_can_be_stopped(
    database_url: str, nats_url: str, log_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(downgraded, database_url)
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name, router_listen="127.0.0.1:0")
    stop = asyncio.Event()
    router = asyncio.create_task(router_role.run(settings, stop, ready=lambda _: None))
    await until(lambda: "run `multishadow migrate`" in caplog.text)
    stop.set()
    await asyncio.wait_for(router, PATIENCE)
    await end(router)


def test_a_busy_table_is_given_up_soon_and_tried_again(database_url: str) -> None:
    downgraded(database_url, WITHOUT_DEAD_LETTERS)
    migrated = threading.Thread(target=migrate, args=(database_url,))
    with psycopg.connect(database_url) as report, psycopg.connect(database_url, autocommit=True) as role:
        report.execute("SELECT count(*) FROM model")  # its lock stays until its transaction ends
        migrated.start()
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'model'::regclass"
        _wait_for(role, blocked)
        began = time.monotonic()
        role.execute("SELECT count(*) FROM model")
        # Half a second at most, however long the report takes.
        assert time.monotonic() - began < 10
        assert migrated.is_alive()
    migrated.join(PATIENCE)
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [(revisions()[0],)]


def _wait_for(connection: psycopg.Connection, query: str) -> None:
    deadline = time.monotonic() + 30
    while connection.execute(query.encode()).fetchone() == (0,):
        assert time.monotonic() < deadline


def test_a_table_that_is_never_free_fails_the_migration_and_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    downgraded(database_url, WITHOUT_DEAD_LETTERS)
    before = rows(database_url, "SELECT version_num FROM alembic_version")
    url = driver_url(database_url, limits=False)
    with psycopg.connect(database_url) as report:
        report.execute("SELECT count(*) FROM model")
        with (
            pytest.raises(StoreUnavailable, match="somebody else has locked"),
            translated(url, "migrating the schema"),
        ):
            upgrade(database(database_url), alembic_config, patience=0.0)
    assert rows(database_url, "SELECT version_num FROM alembic_version") == before


def test_a_migration_that_is_ended_for_a_deadlock_is_tried_again(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    downgraded(database_url)
    attempts = 0

    def deadlocked(connection: Connection) -> Config:
        """Wait for somebody who waits for this transaction."""
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
            waiting.start()
            with psycopg.connect(database_url, autocommit=True) as watch:
                _wait_for(watch, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")
            connection.execute(text("SELECT pg_advisory_xact_lock(2)"))
        return alembic_config(connection)

    with psycopg.connect(database_url) as role:
        role.execute("SET LOCAL deadlock_timeout = '60s'")
        role.execute("SELECT pg_advisory_xact_lock(2)")
        waiting = threading.Thread(target=role.execute, args=("SELECT pg_advisory_xact_lock(1)",))
        upgrade(database(database_url), deadlocked)
        waiting.join(PATIENCE)
    assert attempts == 2
    assert "the migration is tried again: deadlock detected" in caplog.text
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [(revisions()[0],)]
