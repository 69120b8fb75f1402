"""Backups of the database: PostgreSQL's own archives, made and read by PostgreSQL's own programs.

A backup is one snapshot: counts and the offsets of the log that they stand for are from the same moment, whatever
workers commit meanwhile. What that means for captures is in docs/backup.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL

from multishadow_server.adapters.embedded import postgres_programs
from multishadow_server.adapters.postgres.engine import driver_url, translated
from multishadow_server.adapters.postgres.migration import migrate
from multishadow_server.adapters.postgres.schema import revisions
from multishadow_server.errors import EngineFailed, FailedPrecondition, InvalidInput

Report = Callable[[str], None]

# Revisions of the time between backup and restore were seen by routers and are in captures. None of them may be given
# to another configuration.
REVISION_JUMP = 1_000_000
ALIVE_SECONDS = 10
CHUNK_BYTES = 1 << 20
_ENDING_SECONDS = 5.0
_MAJOR = re.compile(r"\(PostgreSQL\) (\d+)")
_TABLE = re.compile(r'dumping contents of table "public\.([^"]+)"')
_CREATED = re.compile(r"^;\s+Archive created at (.+)$", re.MULTILINE)
_DUMPED_FROM = re.compile(r"^;\s+Dumped from database version: (\S+)", re.MULTILINE)
# The first to write `SET transaction_timeout`, which older servers refuse.
_FIRST_WITH_TRANSACTION_TIMEOUT = 17


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A backup.

    Args:
        created: when, in words, as PostgreSQL's program wrote it (in the time zone of where it ran).
        server: the version of the PostgreSQL that it is from.
        revision: of the schema.
    """

    created: str
    server: str
    revision: str


async def back_up(database_url: str, file: Path, *, force: bool, report: Report) -> int:
    """Write a database into a file; roles go on meanwhile. Returns the file's size in bytes.

    Nothing stands at `file` until all of it is written and was read again.

    Args:
        database_url: which.
        file: where to.
        force: whether a file that is there is replaced.
        report: told in a line what happens.

    Raises:
        FailedPrecondition: the file is there, its folder is not, or the database has no schema of ours.
        EngineFailed: PostgreSQL's programs are missing, too old, or failed; the message has their words.
        StoreUnavailable: the database cannot be reached.
    """
    _check_target(file, force=force)
    url = driver_url(database_url, limits=False)
    found = await asyncio.to_thread(_look, url)
    if "alembic_version" not in found.tables:
        raise FailedPrecondition(f"the database {url.database} holds nothing of multishadow's; is it the right one?")
    programs = await _programs(found.server, newer=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.touch(mode=0o600)
        await _dump(programs / "pg_dump", url, partial, report)
        await _archive(programs, partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return await asyncio.to_thread(lambda: file.stat().st_size)


def _check_target(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise FailedPrecondition(f"{file} is there already; choose another name, or replace it with --force")
    if not file.parent.is_dir():
        raise FailedPrecondition(f"there is no folder {file.parent}")


async def restore(database_url: str, file: Path, *, force: bool, actor: str, report: Report) -> Archive:
    """Put a backup into a database, all of it or nothing; then bring it to this program's schema.

    Args:
        database_url: where to: a database that exists.
        file: the backup.
        force: whether everything that the database holds (its schema `public`) is dropped for it.
        actor: who does it, for the audit log.
        report: told in a line what happens.

    Raises:
        InvalidInput: the file is no backup.
        FailedPrecondition: the database is not empty, roles work on it, or the backup is a newer release's.
        EngineFailed: PostgreSQL's programs are missing, too old, or failed; the message has their words.
        StoreUnavailable: the database cannot be reached.
    """
    if not await asyncio.to_thread(file.is_file):
        raise InvalidInput(f"there is no file {file}")
    url = driver_url(database_url, limits=False)
    found = await asyncio.to_thread(_look, url)
    programs = await _programs(found.server, newer=found.server >= _FIRST_WITH_TRANSACTION_TIMEOUT)
    archive = await _archive(programs, file)
    if archive.revision not in revisions():
        raise FailedPrecondition(
            f"{file} has schema {archive.revision or 'unknown'}, which this program ({revisions()[0]}) does not know: "
            "restore it with the release that made it, or a newer one"
        )
    if found.alive:
        raise FailedPrecondition(f"{', '.join(found.alive)} work on this database: stop them first")
    if found.tables and not force:
        raise FailedPrecondition(
            f"the database {url.database} is not empty ({len(found.tables)} tables); --force drops everything in it "
            "first"
        )
    report(f"restoring what was there at {archive.created} (PostgreSQL {archive.server}, schema {archive.revision})")
    await _refill(programs, url, file, archive, drop=bool(found.tables), actor=actor)
    report("everything is there; bringing it to this program's schema")
    await asyncio.to_thread(migrate, database_url)
    return archive


# --- what there is ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A database as it is: its server's major version, its tables, the roles that work on it."""

    server: int
    tables: frozenset[str]
    alive: Sequence[str]


def _look(url: URL) -> _Found:
    with translated(url, "looking at the database"), psycopg.connect(**_parameters(url)) as connection:
        tables = frozenset(name for (name,) in connection.execute(_TABLES).fetchall())
        alive = [
            f"{role} {instance}"
            for role, instance in (connection.execute(_ALIVE, (ALIVE_SECONDS,)) if "process" in tables else ())
        ]
        return _Found(server=connection.info.server_version // 10_000, tables=tables, alive=alive)


_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
_ALIVE = (
    "SELECT role, instance FROM process WHERE seen_at > clock_timestamp() - make_interval(secs => %s) ORDER BY 1, 2"
)


def _parameters(url: URL) -> dict[str, Any]:
    named = {**url.query, **url.translate_connect_args(username="user", database="dbname")}
    return {name: str(value) for name, value in named.items()}


async def _programs(server: int, *, newer: bool) -> Path:
    """The folder of PostgreSQL's programs for a server: the same version's, or the oldest that is newer.

    Raises:
        EngineFailed: there are none.
    """
    found: dict[int, Path] = {}
    on_path = shutil.which("pg_dump")
    for folder in ([Path(on_path).parent] if on_path else []) + [postgres_programs()]:
        if major := await _major(folder):
            found[major] = folder
    fitting = [major for major in found if major == server or (newer and major > server)]
    if not fitting:
        had = ", ".join(map(str, sorted(found))) or "none"
        raise EngineFailed(
            f"this takes pg_dump, pg_restore and psql of PostgreSQL {server}{' or newer' if newer else ''}; found "
            f"{had}: install its client programs, and put them first on the PATH"
        )
    return found[min(fitting)]


async def _major(folder: Path) -> int | None:
    """The version of a folder's programs; None when one is missing."""
    if not all((folder / name).exists() for name in ("pg_dump", "pg_restore", "psql")):
        return None
    said = await _said([folder / "pg_dump", "--version"])
    match = _MAJOR.search(said)
    return int(match[1]) if match else None


async def _archive(programs: Path, file: Path) -> Archive:
    """What a backup says of itself. Raises InvalidInput when it is none."""
    try:
        listing = await _said([programs / "pg_restore", "--list", file])
        rows = await _said([programs / "pg_restore", "--data-only", "--table=alembic_version", "--file=-", file])
    except EngineFailed as error:
        raise InvalidInput(f"{file} is no backup that can be read: {error}") from error
    created, server = _CREATED.search(listing), _DUMPED_FROM.search(listing)
    revision = re.search(r"^COPY public\.alembic_version .*\n(.+)$", rows, re.MULTILINE)
    if created is None or server is None or revision is None:
        raise InvalidInput(f"{file} is an archive of PostgreSQL, but no backup of multishadow")
    return Archive(created=created[1].strip(), server=server[1], revision=revision[1])


# --- running PostgreSQL's programs --------------------------------------------------------------------------------


async def _dump(program: Path, url: URL, file: Path, report: Report) -> None:
    options = ["--format=custom", "--no-owner", "--no-privileges", "--verbose", f"--file={file}"]
    command: list[Path | str] = [program, *options, f"--dbname={_conninfo(url)}"]
    async with _running(command, _environment(url), stdout=DEVNULL, stderr=PIPE) as process:
        said: list[str] = []
        assert process.stderr is not None
        async for line in process.stderr:
            text = line.decode(errors="replace").rstrip()
            if table := _TABLE.search(text):
                report(f"table {table[1]}")
            said = [*said[-9:], text]
        if await process.wait():
            raise EngineFailed(f"pg_dump failed: {_complaint(said)}")


async def _refill(programs: Path, url: URL, file: Path, archive: Archive, *, drop: bool, actor: str) -> None:
    """Run the archive as one transaction, with what comes before and after it."""
    reading: list[Path | str] = [programs / "pg_restore", "--no-owner", "--no-privileges", "--file=-", file]
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    writing: list[Path | str] = [programs / "psql", *options, f"--dbname={_conninfo(url)}"]
    async with (
        _running(reading, {}, stdout=PIPE, stderr=PIPE) as reader,
        _running(writing, _environment(url), stdin=PIPE, stdout=DEVNULL, stderr=PIPE) as writer,
    ):
        assert reader.stderr is not None
        assert writer.stderr is not None
        # Read while they run: a pipe that nobody reads would block them.
        complaints = [asyncio.create_task(each.read()) for each in (reader.stderr, writer.stderr)]
        broken = await _pass_on(reader, writer, before=_BEFORE if drop else "", after=_after(archive, file, actor))
        codes = [await reader.wait(), await writer.wait()]
        said = [(await complaint).decode(errors="replace").splitlines() for complaint in complaints]
    for name, code, lines in zip(("pg_restore", "psql"), codes, said, strict=True):
        if code and not (broken and name == "pg_restore"):
            raise EngineFailed(f"nothing was restored; {name} failed: {_complaint(lines)}")


async def _pass_on(reader: Process, writer: Process, *, before: str, after: str) -> bool:
    """From one to the other; whether the writer gave up in the middle."""
    assert reader.stdout is not None
    assert writer.stdin is not None
    try:
        writer.stdin.write(before.encode())
        while chunk := await reader.stdout.read(CHUNK_BYTES):
            writer.stdin.write(chunk)
            await writer.stdin.drain()
        # What comes from a reader that failed is not whole, and a transaction of it must not be committed.
        ending = "" if await reader.wait() == 0 else "SELECT 1 / 0;\n"
        writer.stdin.write((ending + after).encode())
        await writer.stdin.drain()
        writer.stdin.close()
        await writer.stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        with suppress(ProcessLookupError):
            reader.terminate()
        return True
    return False


_BEFORE = "SET lock_timeout = '10s';\nDROP SCHEMA public CASCADE;\nCREATE SCHEMA public;\n"


def _after(archive: Archive, file: Path, actor: str) -> str:
    detail = {"file": file.name, "created": archive.created, "schema": archive.revision}
    said = ", ".join(_literal(text) for text in (actor, json.dumps(detail)))
    jump = f"UPDATE public.configuration_revision SET revision = revision + {REVISION_JUMP};"  # noqa: S608  a number
    line = f"SELECT now(), actor, 'restore', '', detail::jsonb FROM (VALUES ({said})) AS said (actor, detail);"  # noqa: S608  both are quoted
    columns = "INSERT INTO public.audit_log (at, actor, action, subject, detail)"
    return "\n".join(("", "DELETE FROM public.process;", jump, columns, line, ""))


def _literal(text: str) -> str:
    """A text in SQL that psql reads; with standard_conforming_strings, which the archive sets, only quotes matter."""
    return "'" + text.replace("\x00", "").replace("'", "''") + "'"


async def _said(command: Sequence[Path | str]) -> str:
    """What a program writes. Raises EngineFailed when it fails."""
    async with _running(command, {}, stdout=PIPE, stderr=PIPE) as process:
        out, err = await process.communicate()
    if process.returncode:
        raise EngineFailed(f"{Path(command[0]).name} failed: {_complaint(err.decode(errors='replace').splitlines())}")
    return out.decode(errors="replace")


@asynccontextmanager
async def _running(
    command: Sequence[Path | str],
    environment: Mapping[str, str],
    *,
    stdin: int = DEVNULL,
    stdout: int,
    stderr: int,
) -> AsyncIterator[Process]:
    """A program that does not outlive the block."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        # Its messages are read by us.
        env={**os.environ, "LC_ALL": "C", "PGAPPNAME": "multishadow", **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_ENDING_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _conninfo(url: URL) -> str:
    """Without the password, which everybody on this machine could read from the process list."""
    return make_conninfo(**{name: value for name, value in _parameters(url).items() if name != "password"})


def _environment(url: URL) -> dict[str, str]:
    return {"PGPASSWORD": str(url.password)} if url.password else {}


def _complaint(lines: Sequence[str]) -> str:
    """The line that says what was wrong: programs go on saying what they undo."""
    found = [line for line in lines if "error:" in line.lower()]
    return (found or [line for line in lines if line] or ["it said nothing"])[0]
