"""The configuration as a worker needs it: never older than the capture that it is used for."""

from __future__ import annotations

import asyncio
import logging
import time

from multishadow_server.core.configuration import Configuration
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.ports import ConfigurationSource

SHORTEST_RETRY = 0.05
LONGEST_RETRY = 2.0

_logger = logging.getLogger(__name__)


class ConfigurationInHand:
    """Reads the configuration when a capture asks for a newer one, and when the one in hand has aged.

    Routers must hear of changes at once, so they listen for them. A worker need not: every capture says which revision
    it was decided by. Age matters only for backlogs, whose versions may have moved since.

    Args:
        source: where it is read.
        check_interval: age in seconds at which the one in hand is compared with the source's.
    """

    def __init__(self, source: ConfigurationSource, *, check_interval: float) -> None:
        self._source = source
        self._check_interval = check_interval
        self._configuration: Configuration | None = None
        self._checked_at = 0.0
        self._reading = asyncio.Lock()

    @property
    def revision(self) -> int:
        """Of the one in hand; 0 before the first."""
        return self._configuration.revision if self._configuration else 0

    async def at_least(self, revision: int) -> Configuration:
        """A configuration that is not older than `revision`; while the store is away, this waits for it.

        A revision that the store has never heard of cannot be waited for: then this is the newest there is.
        """
        in_hand = self._usable(revision)
        if in_hand is not None and not self._aged():
            return in_hand
        async with self._reading:
            # Another capture may have waited for the same one.
            in_hand = self._usable(revision)
            if in_hand is None:
                return await self._read_surely()
            if self._aged():
                in_hand = await self._read_if_changed(in_hand)
            return in_hand

    def _usable(self, revision: int) -> Configuration | None:
        usable = self._configuration is not None and self._configuration.revision >= revision
        return self._configuration if usable else None

    def _aged(self) -> bool:
        return time.monotonic() - self._checked_at > self._check_interval

    async def _read_surely(self) -> Configuration:
        retry = SHORTEST_RETRY
        while True:
            try:
                return await self._read()
            except StoreUnavailable as error:
                if retry == SHORTEST_RETRY:
                    _logger.warning("captures wait for the configuration: %s", error)
                await asyncio.sleep(retry)
                retry = min(LONGEST_RETRY, 2 * retry)

    async def _read_if_changed(self, in_hand: Configuration) -> Configuration:
        """The one in hand stays in use while the store is away: it is not older than the capture."""
        self._checked_at = time.monotonic()
        try:
            changed = await self._source.revision() != in_hand.revision
            return await self._read() if changed else in_hand
        except StoreUnavailable:
            return in_hand

    async def _read(self) -> Configuration:
        self._configuration = await self._source.read()
        self._checked_at = time.monotonic()
        return self._configuration
