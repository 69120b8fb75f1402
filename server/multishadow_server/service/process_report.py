"""A process says how it is: every so often, and at once when there is news."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from multishadow_server.errors import MultishadowError
from multishadow_server.service.ending import end, set_within
from multishadow_server.service.ports import ProcessRegistry, ProcessStatus

_logger = logging.getLogger(__name__)


class ProcessReport:
    """Reports one process to the registry. A registry that is away is no trouble for the process.

    Args:
        registry: where it reports.
        status: reads how the process is now.
        interval: seconds between reports.
    """

    def __init__(self, registry: ProcessRegistry, *, status: Callable[[], ProcessStatus], interval: float) -> None:
        self._registry = registry
        self._status = status
        self._interval = interval
        self._news = asyncio.Event()
        self._away = False

    def soon(self) -> None:
        """There is news (a new revision) that somebody may be waiting for: report now, not at the next interval."""
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Report until `stop` is set, then withdraw."""
        stopping = asyncio.create_task(self._stopping(stop))
        try:
            while not stop.is_set():
                # Taken before the reading, so that news which comes during a report makes another one.
                self._news.clear()
                await self._report()
                await set_within(self._news, self._interval)
        finally:
            await end(stopping)
        with suppress(Exception):
            await self._registry.withdraw(self._status().instance)

    async def _stopping(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._news.set()

    async def _report(self) -> None:
        try:
            await self._registry.report(self._status())
        except MultishadowError as error:
            if not self._away:
                _logger.warning("this process cannot report itself: %s", error)
            self._away = True
        except Exception:
            # Whatever it is, a router that answers callers does not end because it cannot say so.
            if not self._away:
                _logger.exception("this process cannot report itself")
            self._away = True
        else:
            self._away = False
