"""A router saves what it counts of live requests, every so often."""

from __future__ import annotations

import asyncio
import logging

from multishadow_server.core.live_counts import LiveTally
from multishadow_server.errors import MultishadowError
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import LiveCountStore

_logger = logging.getLogger(__name__)


class LiveCountReport:
    """Saves one router's tally. A store that is away costs nothing but time: the counts since the start come later.

    Args:
        store: where they are kept.
        tally: what is counted.
        run: names this run of this router.
        interval: seconds between savings.
    """

    def __init__(self, store: LiveCountStore, tally: LiveTally, *, run: str, interval: float) -> None:
        self._store = store
        self._tally = tally
        self._run = run
        self._interval = interval
        self._away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Save until `stop` is set. What is counted after that is for a last `save`, when no request is under way."""
        while not stop.is_set():
            await self.save()
            await set_within(stop, self._interval)

    async def save(self) -> None:
        """Save what changed, if the store can be reached."""
        counts = self._tally.changed()
        if not counts:
            return
        try:
            await self._store.save(self._run, counts)
        except MultishadowError as error:
            self._tally.not_saved(counts)
            if not self._away:
                _logger.warning("live requests are counted, but cannot be saved for now: %s", error)
            self._away = True
        except BaseException:
            self._tally.not_saved(counts)
            raise
        else:
            self._away = False
