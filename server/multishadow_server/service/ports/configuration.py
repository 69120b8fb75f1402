"""Where routers and workers read models, flags and epochs, and what versions claim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.routing import Claims
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

    @property
    def source(self) -> str:
        """Where it reads, for people; empty when from the configuration's own flags."""
        ...

    @property
    def age(self) -> float:
        """Seconds since the source was last known to be fine, besides the configuration's own age."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Readings that did not get their own answer, by reason."""
        ...

    def load(self, configuration: Configuration) -> None:
        """Read from this configuration's flags from now on, or those of its versions elsewhere."""
        ...

    async def first_reading(self) -> None:
        """Wait until the source has answered; after a configuration was loaded.

        Raises FailedPrecondition when it never will.
        """
        ...

    def read(self, keys: tuple[str, ...], context: Callable[[], Context]) -> Claims | Awaitable[Claims]:
        """What the flags of these keys say, in their order; a flag that does not exist or fails says `off`.

        `context` makes what rules read (`targeting.context_of`); it is called only when some flag has a rule. It never
        blocks: it runs inside the live path. A source that cannot be read at once gives an awaitable, which takes no
        longer than the source's time limit, whatever becomes of the source.
        """
        ...
