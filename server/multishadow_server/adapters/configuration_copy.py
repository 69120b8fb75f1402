"""The configuration as a router last read it, in a file: what it serves by when it starts while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from pathlib import Path

from multishadow_server.adapters.postgres.configuration import Snapshot, configuration_of
from multishadow_server.core.configuration import Configuration

# Of the file's form; one of another is not read.
FORM = 1

_logger = logging.getLogger(__name__)


class ConfigurationCopy:
    """One file, which several routers of a machine may share: it is replaced whole, and never found half written.

    A copy that cannot be written or read is no copy: the log says why, and the router goes on as if there were none.

    Args:
        path: the file; its folder is made.
        database: what the copy is of; one of another database is not read.
    """

    def __init__(self, path: Path, *, database: str) -> None:
        self._path = path
        self._database = database
        self._newest: Snapshot | None = None
        self._arrived = asyncio.Event()
        self._failed = False

    def remember(self, snapshot: Snapshot) -> None:
        """Let `run` write it; only the newest counts."""
        self._newest = snapshot
        self._arrived.set()

    async def run(self) -> None:
        """Write what is remembered, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                await asyncio.to_thread(self._write, self._newest)
                self._failed = False
            except OSError as error:
                if not self._failed:
                    _logger.warning(
                        "the configuration cannot be kept in %s: %s; a router that starts while PostgreSQL is away "
                        "will not serve (MULTISHADOW_CONFIGURATION_COPY)",
                        self._path,
                        error,
                    )
                self._failed = True

    def read(self) -> Configuration | None:
        """The copy, or None where there is none that can be used."""
        try:
            held = json.loads(self._path.read_text(encoding="utf-8"))
            if held["form"] != FORM or held["database"] != self._database:
                return None
            return configuration_of(held["snapshot"])
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  a file may hold anything
            _logger.warning("the configuration in %s cannot be used: %r", self._path, error)
            return None

    def _write(self, snapshot: Snapshot | None) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner alone, as `mkstemp` makes it: it says where every version is.
        number, name = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump({"form": FORM, "database": self._database, "snapshot": snapshot}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
