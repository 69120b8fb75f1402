"""Runs migrations: for `multishadow migrate` on its connection, for the `alembic` command on one of its own.

The `alembic` command takes the database from `-x url=...` or MULTISHADOW_DATABASE_URL.
"""

from __future__ import annotations

import os
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlmodel import AutoString

from multishadow_server.adapters.postgres.engine import driver_url
from multishadow_server.adapters.postgres.tables import Table

# "multmigr": one process migrates a database at a time; the others wait, and then find nothing to do.
LOCK = 0x6D756C74_6D696772
LOCK_TIMEOUT = "120s"
# Whoever comes after a statement that waits for a table waits, too, roles with their traffic first of all. So it gives
# up soon, with all that was done, and `multishadow migrate` tries again. Sooner than PostgreSQL looks for deadlocks (a
# second by default): a role whose transaction it holds up is not ended.
TABLE_TIMEOUT = "500ms"


def run(connection: Connection) -> None:
    """Run what alembic was asked for, in one transaction."""
    partitions = set(connection.execute(text("SELECT relname FROM pg_class WHERE relispartition")).scalars())

    def include_name(name: str | None, type_: str, _parents: object) -> bool:
        """Partitions come and go by the day and are no part of the schema's history."""
        return not (type_ == "table" and name in partitions)

    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        include_name=include_name,
        render_item=render_item,
        compare_server_default=True,
    )
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_TIMEOUT}'"))
        context.run_migrations()


def render_item(type_: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Write SQLModel's own string type as what it is in the database."""
    return "sa.String()" if type_ == "type" and isinstance(item, AutoString) else False


def database_url() -> str:
    """The database of the `alembic` command."""
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("MULTISHADOW_DATABASE_URL")
    if not url:
        raise SystemExit("say which database: set MULTISHADOW_DATABASE_URL, or give -x url=postgresql://...")
    return url


if context.is_offline_mode():
    raise SystemExit("migrations here read the database; there is no offline mode")
if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    with create_engine(driver_url(database_url(), limits=False), poolclass=NullPool).connect() as own:
        run(own)
