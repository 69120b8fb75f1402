"""A worker finds out what versions with a capacity answer callers: copies get what callers leave."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from multishadow_server.core.live_rates import LiveRates
from multishadow_server.errors import MultishadowError
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import LiveCountReader
from multishadow_server.service.version_guard import VersionGuard

_logger = logging.getLogger(__name__)


class LiveLoad:
    """Tells the guard, every so often. While the store is away, what was known last stays.

    Args:
        counts: where routers keep what they count.
        guard: is told, and says of whom it wants to know.
        interval: seconds between readings.
    """

    def __init__(
        self,
        counts: LiveCountReader,
        guard: VersionGuard,
        *,
        interval: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._guard = guard
        self._interval = interval
        self._monotonic = monotonic
        self._rates = LiveRates()
        self._read_at: float | None = None
        self._away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; without a version with a capacity nothing is read."""
        while not stop.is_set():
            if models := sorted({model for model, _ in self._guard.budgeted}):
                await self._look(models)
            await set_within(stop, self._interval)

    async def _look(self, models: list[str]) -> None:
        now = self._monotonic()
        since = 0.0 if self._read_at is None else now - self._read_at
        try:
            counts, fresh = await self._counts.requests(models, began_within=since)
        except MultishadowError as error:
            if not self._away:
                _logger.warning("what versions answer callers cannot be read, the last rates stay: %s", error)
            self._away = True
            return
        except Exception:
            # A worker that counts does not end because a budget cannot be told.
            if not self._away:
                _logger.exception("what versions answer callers cannot be read, the last rates stay")
            self._away = True
            return
        self._away, self._read_at = False, now
        self._rates.note(counts, fresh=fresh, now=now)
        self._guard.note_live(self._rates.per_second())
