"""Backup under traffic, restore elsewhere and over what is there, and what counts afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from test_migrations import on

from multishadow_server.adapters.deployment import folder_lock
from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres, postgres_programs
from multishadow_server.adapters.postgres import backup, migrate
from multishadow_server.adapters.postgres.engine import driver_url
from multishadow_server.adapters.postgres.schema import revisions
from multishadow_server.app import backup as backups
from multishadow_server.entrypoints.cli import cli
from multishadow_server.errors import EngineFailed, FailedPrecondition, InvalidInput, StoreUnavailable
from multishadow_server.settings import Settings
from shadowed_traffic import MODEL, Counts, append, begin_next_epoch, staged, working
from store_fixtures import rows
from version_servers import answering, diverges_on, diverging
from waiting import until

PER_BURST = 40


@pytest.fixture
def elsewhere(postgres: EmbeddedPostgres, database_url: str) -> Iterator[str]:
    """An empty database beside the test's."""
    name = f"restored_{os.getpid()}_{abs(hash(database_url)) % 10**9}"
    yield postgres.create_database(name, template="template0")
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=2, worker_linger=0.02
    )


async def backed_up(database_url: str, file: Path, **more: bool) -> list[str]:
    said: list[str] = []
    assert await backup.back_up(database_url, file, report=said.append, force=more.get("force", False)) > 1000
    return said


async def restored(database_url: str, file: Path, *, force: bool = False) -> list[str]:
    said: list[str] = []
    await backup.restore(database_url, file, force=force, actor="ada 'the' first", report=said.append)
    return said


def counted(database_url: str) -> int:
    found = rows(database_url, "SELECT COALESCE(sum(n), 0)::int FROM rollup WHERE family = 'outcome' AND subject = 'A'")
    return int(found[0][0])


async def test_a_backup_taken_under_traffic_goes_on_elsewhere_and_counts_nothing_twice(
    settings: Settings, elsewhere: str, tmp_path: Path
) -> None:
    file = tmp_path / "traffic.dump"
    async with staged(settings, {"A": answering(), "B": diverging(0.3)}) as stage:
        sent = 0
        done = asyncio.Event()

        async def log() -> None:
            nonlocal sent
            while not done.is_set():
                await append(stage.log, stage.captures(PER_BURST, prefix=f"burst-{sent}"), per_message=4)
                sent += PER_BURST

        async with working(settings):
            logging = asyncio.create_task(log())
            await until(lambda: counted(str(settings.database_url)) > PER_BURST)
            said = await backed_up(str(settings.database_url), file)
            done.set()
            await logging
        # Some wait in the log that the former database's worker has not counted, and never will.
        held = counted(str(settings.database_url))
        late = stage.captures(PER_BURST, prefix="late")
        await append(stage.log, late)
        sent += len(late)
        assert "table rollup" in said

        await restored(elsewhere, file)
        snapshot = counted(elsewhere)
        assert PER_BURST < snapshot <= held
        # The counts are exactly those that the offsets stand for: what else there is waits in the log, or was counted
        # in the former database after the snapshot and is gone from the log.
        async with working(settings.model_copy(update={"database_url": elsewhere}), instance="elsewhere"):
            await until(stage.drained)
        waited = sent - held
        counts = Counts(elsewhere, stage.epoch)
        assert await counts.by_version() == {"A": snapshot + waited, "B": snapshot + waited}
        diverged = sum(diverges_on(capture.request_id, 0.3) for capture in late)
        assert (await counts.outcomes())["B", "diverged"] >= diverged
        await counts.aclose()
    assert rows(elsewhere, "SELECT actor, detail->>'file' FROM audit_log WHERE action = 'restore'") == [
        ("ada 'the' first", "traffic.dump")
    ]


async def test_an_older_backup_in_place_counts_what_still_waits_and_gives_no_revision_out_again(
    settings: Settings, tmp_path: Path
) -> None:
    url, file = str(settings.database_url), tmp_path / "before.dump"
    async with staged(settings, {"A": answering()}) as stage:
        async with working(settings):
            await append(stage.log, stage.captures(10))
            await stage.counts.reach(10)
            await backed_up(url, file)
            await append(stage.log, stage.captures(7, prefix="lost"))
            await stage.counts.reach(17)
            await until(stage.drained)
        later = await begin_next_epoch(stage, candidates=("A",))
        await append(stage.log, stage.captures(5, prefix="waits", revision=later.from_revision))
        with pytest.raises(FailedPrecondition, match=r"not empty .* --force"):
            await restored(url, file)
        assert counted(url) == 17
        await restored(url, file, force=True)
        assert counted(url) == 10
        ((revision,),) = rows(url, "SELECT revision FROM configuration_revision")
        assert revision > backup.REVISION_JUMP
        async with working(settings, instance="afterwards"):
            await until(stage.drained)
            await until(lambda: counted(url) == 15)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 15})
        # And once more, from what was restored.
        again = tmp_path / "again.dump"
        await backed_up(url, again)
        await restored(url, again, force=True)
        assert counted(url) == 15


async def test_a_backup_of_an_older_schema_is_brought_to_this_one(
    database_url: str, elsewhere: str, tmp_path: Path
) -> None:
    file = tmp_path / "old.dump"
    await asyncio.to_thread(on, database_url, _one_back)
    await backed_up(database_url, file)
    said = await restored(elsewhere, file)
    assert f"schema {revisions()[1]}" in said[0]
    assert rows(elsewhere, "SELECT version_num FROM alembic_version") == [(revisions()[0],)]


def _one_back(config: object) -> None:
    from alembic import command  # noqa: PLC0415

    command.downgrade(config, "-1")  # type: ignore[arg-type]  # the one that `on` makes


async def test_a_backup_of_a_newer_schema_is_refused(database_url: str, elsewhere: str, tmp_path: Path) -> None:
    rows(database_url, "UPDATE alembic_version SET version_num = 'from_the_future' RETURNING 1")
    await backed_up(database_url, tmp_path / "new.dump")
    with pytest.raises(FailedPrecondition, match=r"schema from_the_future, which this program .* does not know"):
        await restored(elsewhere, tmp_path / "new.dump")


async def test_a_database_that_roles_work_on_is_left_alone_whatever_is_asked(database_url: str, tmp_path: Path) -> None:
    await backed_up(database_url, tmp_path / "x.dump")
    alive = "'worker', 'w-1', 'h', 1, now(), 1, '{}', now()"
    columns = "role, instance, host, pid, started_at, revision, counters, seen_at"
    rows(database_url, f"INSERT INTO process ({columns}) VALUES ({alive}) RETURNING 1")
    with pytest.raises(FailedPrecondition, match="worker w-1 work on this database: stop them first"):
        await restored(database_url, tmp_path / "x.dump", force=True)


async def test_a_backup_that_breaks_off_changes_nothing(database_url: str, tmp_path: Path) -> None:
    file, half = tmp_path / "whole.dump", tmp_path / "half.dump"
    # Enough that half of the file ends amid the data.
    filler = "INSERT INTO configuration_revision SELECT 1, 1 WHERE false RETURNING 1"
    rows(database_url, filler)
    await backed_up(database_url, file)
    half.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    before = rows(database_url, "SELECT version_num FROM alembic_version")
    with pytest.raises((EngineFailed, InvalidInput)):
        await restored(database_url, half, force=True)
    assert rows(database_url, "SELECT version_num FROM alembic_version") == before


async def test_what_is_no_backup_is_refused(database_url: str, elsewhere: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no archive")
    with pytest.raises(InvalidInput, match=r"notes\.txt is no backup that can be read: pg_restore failed"):
        await restored(elsewhere, text)
    with pytest.raises(InvalidInput, match="there is no file"):
        await restored(elsewhere, tmp_path / "missing.dump")
    others = tmp_path / "others.dump"
    dump = await asyncio.create_subprocess_exec(
        str(postgres_programs() / "pg_dump"), "--format=custom", f"--file={others}", elsewhere
    )
    assert await dump.wait() == 0
    with pytest.raises(InvalidInput, match="no backup of multishadow"):
        await restored(elsewhere, others)


async def test_what_cannot_be_backed_up_is_named(database_url: str, elsewhere: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken.dump"
    taken.write_text("precious")
    with pytest.raises(FailedPrecondition, match="--force"):
        await backed_up(database_url, taken)
    assert taken.read_text() == "precious"
    await backed_up(database_url, taken, force=True)
    assert taken.stat().st_mode & 0o077 == 0, "it holds what callers sent"
    with pytest.raises(FailedPrecondition, match="no folder"):
        await backed_up(database_url, tmp_path / "nowhere" / "x.dump")
    with pytest.raises(FailedPrecondition, match="is it the right one"):
        await backed_up(elsewhere, tmp_path / "x.dump")
    with pytest.raises(StoreUnavailable) as away:
        await backed_up("postgresql://ada:hunter2@127.0.0.1:1/x", tmp_path / "x.dump")
    assert "hunter2" not in str(away.value)
    assert await asyncio.to_thread(lambda: [path.name for path in tmp_path.iterdir()]) == ["taken.dump"]


async def test_programs_too_old_for_the_server_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"of PostgreSQL 99 or newer; found .*18: install its client programs"):
        await backup._programs(99, newer=True)


async def test_the_embedded_database_is_backed_up_and_restored_where_it_lies(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path / "data" / "postgres")
    await asyncio.to_thread(migrate, engine.start())
    pid = engine.pid
    settings, file, said = Settings(data_dir=tmp_path / "data"), tmp_path / "x.dump", []  # type: ignore[var-annotated]
    # `serve` holds the folder, and its PostgreSQL runs: a backup joins it, and a restore is refused.
    with folder_lock(tmp_path / "data"):
        assert await backups.back_up(settings, asyncio.Event(), file=file, force=False, report=said.append) == 0
        assert engine.pid == pid
        with pytest.raises(FailedPrecondition, match="is in use by process"):
            await backups.restore(settings, asyncio.Event(), file=file, force=True, report=said.append)
    engine.stop()
    assert re.match(r"\S+x\.dump: \d+\.\d MiB", said[-1])
    other = Settings(data_dir=tmp_path / "other")
    with pytest.raises(FailedPrecondition, match="there is no embedded database"):
        await backups.back_up(other, asyncio.Event(), file=file, force=True, report=said.append)
    assert await backups.restore(other, asyncio.Event(), file=file, force=False, report=said.append) == 0
    assert said[-1].startswith("restored. What was counted after ")
    assert not (tmp_path / "other" / "postgres" / "postmaster.pid").exists(), "what was started for it is stopped"


async def test_a_log_that_is_put_back_to_an_older_state_is_refused_and_counts_nothing(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = EmbeddedNats(tmp_path / "nats")
    url = engine.start()
    settings = Settings(database_url=database_url, nats_url=url, log_partitions=1, worker_linger=0.02)
    try:
        async with staged(settings, {"A": answering()}) as stage:
            async with working(settings):
                await append(stage.log, stage.captures(5), per_message=1)
                await until(stage.drained)
                engine.stop()
                await asyncio.to_thread(shutil.copytree, tmp_path / "nats", tmp_path / "older")
                engine.start()
                await append(stage.log, stage.captures(5, prefix="later"), per_message=1)
                await stage.counts.reach(10)
                await until(stage.drained)
                engine.stop()
            await asyncio.to_thread(shutil.rmtree, tmp_path / "nats")
            await asyncio.to_thread(shutil.copytree, tmp_path / "older", tmp_path / "nats")
            engine.start()
            await append(stage.log, stage.captures(1, prefix="new"), per_message=1)
            async with working(settings, instance="afterwards"):
                await until(lambda: "was put back to an older state" in caplog.text)
            assert await stage.counts.by_version() == {"A": 10}
    finally:
        engine.stop()


def test_the_commands_say_how_it_went_and_what_is_in_the_way_in_one_line(
    database_url: str, elsewhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli(args=arguments)
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    file = str(tmp_path / "x.dump")
    code, said = command("backup", file, "--database-url", database_url)
    assert (code, "x.dump: 0." in said) == (0, True), said
    code, said = command("backup", file, "--database-url", database_url)
    problem = "is there already; choose another name, or replace it with --force"
    assert (code, said) == (1, f"multishadow backup: {file} {problem}\n")
    code, said = command("restore", file, "--database-url", elsewhere)
    assert (code, "restored. What was counted after" in said) == (0, True), said
    code, said = command("restore", file, "--database-url", elsewhere)
    assert (code, "is not empty" in said, len(said.splitlines())) == (1, True, 1)


def test_no_password_is_in_the_arguments_of_a_program() -> None:
    url = driver_url(f"postgresql://ada:hunter2@db:5432/{MODEL}?sslmode=require", limits=False)
    assert "hunter2" not in backup._conninfo(url)
    assert "sslmode=require" in backup._conninfo(url)
    assert backup._environment(url) == {"PGPASSWORD": "hunter2"}
