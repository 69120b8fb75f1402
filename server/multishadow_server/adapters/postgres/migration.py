"""Bringing a database to the newest schema."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, create_engine

from multishadow_server.adapters.postgres import retention
from multishadow_server.adapters.postgres.engine import driver_url, translated

# alembic keeps its context in module globals: one thread at a time.
_alone = threading.Lock()


def migrate(database_url: str) -> None:
    """Bring the database to the newest schema; nothing happens when it has it. Several processes may call at once.

    Blocks: from a coroutine call it with `asyncio.to_thread`.

    Raises:
        StoreUnavailable: PostgreSQL cannot be reached.
        InvalidInput: the URL is none.
    """
    url = driver_url(database_url, limits=False)
    engine = create_engine(url, poolclass=NullPool)
    with _alone, translated(url, "migrating the schema"), engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
        retention.prepare_days(connection)


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
