"""Bringing a database to the newest schema."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import OperationalError

from multishadow_server.adapters.postgres import partition_indexes, retention
from multishadow_server.adapters.postgres.engine import driver_url, lacked_a_lock, translated

PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = (0.3, 1.0)
_logger = logging.getLogger(__name__)

# alembic keeps its context in module globals: one thread at a time.
_alone = threading.Lock()


def migrate(database_url: str) -> None:
    """Bring the database to the newest schema; nothing happens when it has it. Several processes may call at once.

    Blocks: from a coroutine call it with `asyncio.to_thread`.

    Raises:
        StoreUnavailable: PostgreSQL cannot be reached, or somebody holds a table for minutes.
        InvalidInput: the URL is none.
    """
    url = driver_url(database_url, limits=False)
    with translated(url, "migrating the schema"):
        upgrade(create_engine(url, poolclass=NullPool), alembic_config)


def upgrade(engine: Engine, configured: Callable[[Connection], Config], *, patience: float = PATIENCE_SECONDS) -> None:
    """Upgrade to the head of these migrations, in one transaction, while roles work on the tables.

    Then indexes are built on partitions that hold rows, without holding up anybody; see `partition_indexes`.

    Roles hold their locks for milliseconds, and somebody's long report holds one for minutes: a table that cannot be
    had within half a second is given up, with all the others, and everything is tried again.

    Args:
        engine: the database.
        configured: alembic's configuration on an open connection.
        patience: seconds for which tables are tried again.

    Raises:
        psycopg.errors.LockNotAvailable (wrapped by SQLAlchemy): a table could not be had in all that time.
    """
    until = time.monotonic() + patience
    while True:
        try:
            with _alone, engine.begin() as connection:
                command.upgrade(configured(connection), "head")
                retention.prepare_days(connection)
        except OperationalError as error:
            if not lacked_a_lock(error) or time.monotonic() > until:
                raise
            _logger.warning("a table is busy; the migration is tried again: %s", str(error.orig).partition("\n")[0])
            # Not the same moment as whatever comes at regular intervals.
            time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311  no secret
        else:
            break
    partition_indexes.complete(engine, patience=patience)


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for commands on an open connection, whose transaction they join."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrations_folder() -> Path:
    """Where the migrations are: in the wheel beside this package's modules, in a checkout at its top."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"
