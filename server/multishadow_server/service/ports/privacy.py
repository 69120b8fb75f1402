"""What storing under privacy terms needs of the world, and what stored traffic is asked for."""

from __future__ import annotations

from typing import Protocol

from multishadow_server.core.redaction import Seal


class SealSource(Protocol):
    """Where the deployment's key for hashes is."""

    async def seal(self) -> Seal:
        """The one that every process has.

        Raises:
            StoreUnavailable: the database is away.
            FailedPrecondition: this process was given another key than the deployment's.
        """
        ...
