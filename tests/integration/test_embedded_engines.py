"""The embedded PostgreSQL and nats-server."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import nats
import psutil
import psycopg
import pytest

from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.errors import EngineFailed

SECRET = "alice-example"


def test_postgres_keeps_its_data_over_a_stop_and_over_a_kill(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path / "data")
    url = engine.start()
    try:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        for end in (engine.stop, engine.kill):
            with psycopg.connect(url) as connection:
                connection.execute("INSERT INTO kept VALUES (1)")
            end()
            assert engine.start() == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (2,)
    finally:
        engine.stop()


def test_postgres_stops_although_an_earlier_user_of_its_folder_was_killed(tmp_path: Path) -> None:
    user = "import sys, pathlib; from multishadow_server.adapters.embedded import EmbeddedPostgres as P; "
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            user + f"P(pathlib.Path({str(tmp_path / 'data')!r})).start(); import os; os.kill(os.getpid(), 9)",
        ],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    engine = EmbeddedPostgres(tmp_path / "data")
    engine.start()
    pid = engine.pid
    engine.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_nats_keeps_its_streams_and_its_address_over_a_stop_and_over_a_kill(tmp_path: Path) -> None:
    engine = EmbeddedNats(tmp_path / "data")
    url = engine.start()
    try:
        for count, end in enumerate((engine.stop, engine.kill)):
            client = await nats.connect(url)
            if count == 0:
                await client.jetstream().add_stream(name="kept", subjects=["kept"])
            await client.jetstream().publish("kept", b"message")
            await client.close()
            end()
            assert engine.start() == url
        client = await nats.connect(url)
        assert (await client.jetstream().stream_info("kept")).state.messages == 2
        await client.close()
    finally:
        pid = engine.pid
        engine.stop()
    assert not psutil.pid_exists(pid)


def test_an_engine_that_cannot_start_says_why_and_what_to_use_instead(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    # A stream folder that is a file: nats-server refuses it.
    (tmp_path / "data" / "jetstream").write_text("")
    with pytest.raises(EngineFailed, match="MULTISHADOW_NATS_URL"):
        EmbeddedNats(tmp_path / "data").start()


def written_by(engine_folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in engine_folder.rglob("*") if file.is_file())


async def test_nats_keeps_requests_readable_by_who_has_the_key_only(tmp_path: Path) -> None:
    folder, key = tmp_path / "data", "a key, of whatever: { $ }"
    plain, keyed = EmbeddedNats(folder), EmbeddedNats(folder, key=key)
    try:
        client = await nats.connect(plain.start())
        await client.jetstream().add_stream(name="captures", subjects=["captures"])
        await client.jetstream().publish("captures", SECRET.encode())
        await client.close()
        plain.stop()
        assert SECRET.encode() in written_by(folder)
        # What is there already is encrypted, too, and read again.
        for count in (1, 2):
            client = await nats.connect(keyed.start())
            await client.jetstream().publish("captures", SECRET.encode())
            assert (await client.jetstream().get_msg("captures", seq=1)).data == SECRET.encode()
            assert (await client.jetstream().stream_info("captures")).state.messages == count + 1
            await client.close()
            keyed.stop()
            assert SECRET.encode() not in written_by(folder)
            assert key.encode() not in written_by(folder)
    finally:
        for engine in (plain, keyed):
            engine.stop()


def test_postgres_logs_what_failed_without_the_row_that_it_failed_on(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path / "data")
    try:
        with psycopg.connect(engine.start(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int CHECK (n > 0), t jsonb)")
            with pytest.raises(psycopg.errors.CheckViolation, match=SECRET):
                connection.execute("INSERT INTO kept VALUES (-1, '\"alice-example\"')")
            cursor = connection.cursor()
            refused = pytest.raises(psycopg.errors.UntranslatableCharacter, match=SECRET)
            with refused, cursor.copy("COPY kept FROM STDIN") as copy:
                copy.write('1\t{"mail": "alice-example \\\\u0000"}\n')
    finally:
        engine.stop()
    log = (tmp_path / "data" / "log").read_text()
    assert "violates check constraint" in log
    assert "unsupported Unicode escape sequence" in log
    assert SECRET not in log
