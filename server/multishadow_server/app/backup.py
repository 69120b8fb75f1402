"""Backups, of the database that the settings name or of the embedded one."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from multishadow_server.adapters.deployment import ends_with_us, folder_lock
from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.postgres import backup
from multishadow_server.errors import FailedPrecondition, LogUnavailable
from multishadow_server.service.ending import unless_set
from multishadow_server.settings import Settings

Report = Callable[[str], None]
MEBIBYTE = 1 << 20


async def back_up(settings: Settings, stop: asyncio.Event, *, file: Path, force: bool, report: Report) -> int:
    """Write the database into a file; returns the exit code. For what it raises see adapters.postgres.backup."""

    async def run() -> None:
        with database(settings, alone=False) as url:
            size = await backup.back_up(url, file, force=force, report=report)
            report(f"{file}: {size / MEBIBYTE:,.1f} MiB")
            await _tell_of_the_log(settings, report)

    return 0 if await unless_set(stop, run()) else 1


async def restore(settings: Settings, stop: asyncio.Event, *, file: Path, force: bool, report: Report) -> int:
    """Put a backup into the database; returns the exit code. For what it raises see adapters.postgres.backup."""

    async def run() -> None:
        with database(settings, alone=True) as url:
            archive = await backup.restore(url, file, force=force, actor=_actor(), report=report)
        report(
            f"restored. What was counted after {archive.created} is not in it and is not counted again; captures that "
            "wait in the log are counted once workers run. Next: start the roles, then `shadowctl status`"
        )

    return 0 if await unless_set(stop, run()) else 1


@contextmanager
def database(settings: Settings, *, alone: bool) -> Iterator[str]:
    """The database's URL; an embedded one is started for it, or joined where `serve` runs it.

    Raises:
        FailedPrecondition: no database is named and there is no embedded one; or `alone`, and `serve` runs.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    folder = settings.data_dir / "postgres"
    with ExitStack() as resources:
        if alone:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            resources.enter_context(folder_lock(settings.data_dir))
        elif not folder.is_dir():
            raise FailedPrecondition(
                f"there is no embedded database in {settings.data_dir}; name its folder with --data-dir, or another "
                "database with --database-url"
            )
        postgres = EmbeddedPostgres(folder)
        running = (folder / "postmaster.pid").exists()
        url = postgres.start()
        resources.callback(postgres.stop)
        if not running:
            resources.enter_context(ends_with_us(folder))
        yield url


async def _tell_of_the_log(settings: Settings, report: Report) -> None:
    """Say what the backup does not hold."""
    if settings.nats_url is None:
        return
    backlog = JetStreamBacklog(settings.nats_url, settings.log_name)
    try:
        waiting = await backlog.waiting()
        report(f"the log is no part of it; {waiting:,} messages wait there and are not counted yet")
    except LogUnavailable as error:
        report(f"the log is no part of it, and cannot be asked what waits there: {error}")
    finally:
        await backlog.aclose()


def _actor() -> str:
    """Who does it, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    return os.environ.get("MULTISHADOW_ACTOR", "") or f"{user}@{socket.gethostname()}"
