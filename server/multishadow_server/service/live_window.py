"""Live figures of about the last minute, for whoever looks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from multishadow_server.core import live_figures
from multishadow_server.core.live_figures import LiveFigures, LiveReading
from multishadow_server.service.ports import LiveFigureReader

WINDOW_SECONDS = 60.0
# Routers save once a second: to read more often shows nothing new.
FRESH_SECONDS = 2.0


class LiveWindow:
    """Keeps the readings of the last minute, taken when somebody looks: nobody who does not look costs anything.

    The first look has none before it, and sees figures since the present counts began; see `live_figures.between`.

    Args:
        reader: reads the counts.
    """

    def __init__(self, reader: LiveFigureReader) -> None:
        self._reader = reader
        self._readings: deque[LiveReading] = deque()
        self._reading = asyncio.Lock()

    async def figures(self) -> Mapping[tuple[str, str], LiveFigures]:
        """Figures by (model, version). Raises StoreUnavailable."""
        async with self._reading:
            now = await self._reader.now()
            if not self._readings or now - self._readings[-1].at >= FRESH_SECONDS:
                self._readings.append(await self._reader.reading())
            while len(self._readings) > 2 and self._readings[1].at <= now - WINDOW_SECONDS:
                self._readings.popleft()
            before = self._readings[0] if len(self._readings) > 1 else None
            return live_figures.between(before, self._readings[-1])
