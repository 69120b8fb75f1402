"""Where routers keep what they count of live requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from multishadow_server.core.live_counts import LiveCounts, Share
from multishadow_server.core.live_rates import Counted


class LiveCountStore(Protocol):
    """Where routers keep what they count of live requests."""

    async def save(self, run: str, counts: Mapping[Share, LiveCounts]) -> None:
        """Put the counts of one router since it began in place of those that it saved before.

        Saving them twice, or again after a commit whose outcome is unknown, counts nothing twice.

        Args:
            run: of the router; another one after each of its starts.
            counts: since it began.

        Raises:
            StoreUnavailable: not now.
        """
        ...


class LiveCountReader(Protocol):
    """What routers count, as it goes on."""

    async def requests(
        self, models: Sequence[str], *, began_within: float
    ) -> tuple[Mapping[Counted, int], frozenset[Counted]]:
        """Live requests of these models by who counts them, and whose count began within so many seconds.

        Raises:
            StoreUnavailable: not now.
        """
        ...
