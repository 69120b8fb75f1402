"""Following the configuration: every revision, as soon as it is committed, and how long ago that was last certain.

Announcements (LISTEN/NOTIFY) bring a change within milliseconds; a periodic check finds one whose announcement was
missed, and is what keeps the age down while nothing changes. When the source is away the last reading stays.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from multishadow_server.core.configuration import Configuration
from multishadow_server.errors import MultishadowError
from multishadow_server.service import ports
from multishadow_server.service.ending import INNER_PATIENCE_SECONDS, end, set_within

logger = logging.getLogger(__name__)

FIRST_RETRY = 0.05
PATIENCE = 5.0


class ConfigurationWatch:
    """Hands each new revision to `on_change`, in the event loop: all readers in it change at once.

    Args:
        source: where the configuration is read.
        on_change: called with each new configuration; what it raises is logged, and the revision tried again.
        check_interval: seconds between checks for a missed announcement.
        patience: seconds after which a source that neither answers nor fails counts as lost.

    Attributes:
        configuration: the last reading; the empty one before the first.
        first_read: set by the first reading.
    """

    def __init__(
        self,
        source: ports.ConfigurationSource,
        *,
        on_change: Callable[[Configuration], None],
        check_interval: float,
        patience: float = PATIENCE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._on_change = on_change
        self._check_interval = check_interval
        self._patience = patience
        self._monotonic = monotonic
        self._announced = asyncio.Event()
        self._confirmed_at = -math.inf
        self._lost = False
        self.configuration = Configuration()
        self.first_read = asyncio.Event()

    @property
    def age(self) -> float:
        """Seconds since the configuration was last known to be the present one; infinite before the first reading."""
        return self._monotonic() - self._confirmed_at

    async def run(self) -> None:
        """Follow until cancelled."""
        # No TaskGroup: it cancels its tasks once, and what the driver waits with may lose that; `end` tells again.
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._check())]
        try:
            ended, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            for task in ended:
                await task
        finally:
            await end(*tasks, patience=INNER_PATIENCE_SECONDS)

    async def _listen(self) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                async for revision in self._source.changes():
                    delay = FIRST_RETRY
                    if revision != self.configuration.revision or not self.first_read.is_set():
                        self._announced.set()
            except MultishadowError as error:
                self._note_loss(error)
            except Exception:
                # What nobody thought of must not end the router: there is still the check every so often.
                logger.exception("announcements of changes cannot be followed")
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._check_interval)

    async def _check(self) -> None:
        delay = FIRST_RETRY
        while True:
            announced = self._announced.is_set()
            self._announced.clear()
            fine = await self._bring_up_to_date(announced=announced)
            if fine:
                delay = FIRST_RETRY
            await set_within(self._announced, self._check_interval if fine else delay)
            delay = min(2 * delay, self._check_interval)

    async def _bring_up_to_date(self, *, announced: bool) -> bool:
        """Read the configuration if it changed; False when that is not known."""
        asked_at = self._monotonic()
        try:
            async with asyncio.timeout(self._patience):
                if announced or not self.first_read.is_set() or await self._differs():
                    self._take(await self._source.read())
        except TimeoutError:
            self._note_loss(f"no answer in {self._patience:g} s")
            return False
        except MultishadowError as error:
            self._note_loss(error)
            return False
        except Exception:
            # A configuration that readers choke on must not stop the following ones, nor what is served now.
            logger.exception("a configuration cannot be used; the last one stays")
            return False
        self._confirmed_at = asked_at
        self._note_return()
        return True

    async def _differs(self) -> bool:
        return await self._source.revision() != self.configuration.revision

    def _take(self, configuration: Configuration) -> None:
        if self.first_read.is_set() and configuration.revision == self.configuration.revision:
            return
        self._on_change(configuration)
        self.configuration = configuration
        self.first_read.set()

    def _note_loss(self, reason: object) -> None:
        if not self._lost:
            logger.warning("the configuration's source is lost, the last reading stays: %s", reason)
        self._lost = True

    def _note_return(self) -> None:
        if self._lost:
            logger.info("the configuration is current again, at revision %d", self.configuration.revision)
        self._lost = False
