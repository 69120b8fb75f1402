"""Where routers and workers read models, flags and epochs, and what versions claim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.routing import Claim
from multishadow_server.core.targeting import Context


class ConfigurationSource(Protocol):
    """Where routers and workers read models, flags and epochs."""

    async def read(self) -> Configuration:
        """Everything at the present revision. Raises StoreUnavailable."""
        ...

    async def revision(self) -> int:
        """The present revision alone, for a cheap periodic check. Raises StoreUnavailable."""
        ...

    def changes(self) -> AsyncIterator[int]:
        """The present revision, then each one as it is committed (LISTEN/NOTIFY).

        The present one comes first, when listening has begun, so that nothing is missed between two connections.
        Raises StoreUnavailable when the connection is lost.
        """
        ...


class ClaimReader(Protocol):
    """Reads what versions claim for one request."""

    def load(self, configuration: Configuration) -> None:
        """Read from this configuration's flags from now on."""
        ...

    def read(self, keys: Sequence[str], context: Callable[[], Context]) -> Sequence[Claim]:
        """What the flags of these keys say, in their order; a flag that does not exist or fails says `off`.

        `context` makes what rules read (`targeting.context_of`); it is called only when some flag has a rule. It never
        blocks: it runs inside the live path.
        """
        ...
