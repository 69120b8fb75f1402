"""Whether a database has the schema that this program needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.engine import reaching
from multishadow_server.adapters.postgres.migration import migrations_folder


class Standing(StrEnum):
    """How a database's schema stands to this program's."""

    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """A database's schema.

    Args:
        standing: to this program.
        found: its revision; empty when it has none.
        wanted: this program's.
    """

    standing: Standing
    found: str
    wanted: str

    @property
    def usable(self) -> bool:
        """Whether this program can work with it: a newer one keeps everything that it knows (docs/deployment.md)."""
        return self.standing in {Standing.CURRENT, Standing.NEWER}

    def __str__(self) -> str:
        match self.standing:
            case Standing.CURRENT:
                return f"the database is at revision {self.found}, which is this program's"
            case Standing.NEWER:
                return (
                    f"the database is at revision {self.found}, which this program ({self.wanted}) does not know: a "
                    "newer release migrated it. It goes on; run that release soon"
                )
            case Standing.OLDER:
                had = f"at revision {self.found}"
            case Standing.MISSING:
                had = "empty"
        return f"the database is {had}, and this program needs {self.wanted}: run `multishadow migrate` on it"


def standing(found: str, chain: Sequence[str]) -> Schema:
    """How a revision stands to a program's own.

    Args:
        found: the database's; empty when it has none.
        chain: the program's, the newest first.
    """
    if not found:
        where = Standing.MISSING
    elif found == chain[0]:
        where = Standing.CURRENT
    else:
        where = Standing.OLDER if found in chain else Standing.NEWER
    return Schema(standing=where, found=found, wanted=chain[0])


@cache
def revisions() -> Sequence[str]:
    """This program's schema revisions, the newest first."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return tuple(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


async def read_schema(engine: AsyncEngine) -> Schema:
    """A database's schema. Raises StoreUnavailable."""
    async with reaching(engine, "reading the schema's revision"), engine.connect() as connection:
        if (await connection.execute(_HAS_REVISION)).scalar_one() is None:
            return standing("", revisions())
        found = (await connection.execute(_REVISION)).scalar_one_or_none()
    return standing(found or "", revisions())


_HAS_REVISION = text("SELECT to_regclass('alembic_version')")
_REVISION = text("SELECT version_num FROM alembic_version")
