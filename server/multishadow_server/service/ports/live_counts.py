"""Where routers keep what they count of live requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from multishadow_server.core.live_counts import LiveCounts, Share


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
