"""A process tells how it is, so that `status` can show it and can tell who has gone quiet."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.ports import ProcessRegistry, ProcessStatus

_log = logging.getLogger(__name__)


class SelfReport:
    """What this process says of itself, again and again.

    Args:
        registry: where to.
        role: "router", "worker" or "control".
        instance: this process's name.
        revision: the newest revision that it acts on.
        counters: counts since its start, by name.
    """

    def __init__(
        self,
        registry: ProcessRegistry,
        *,
        role: str,
        instance: str,
        revision: Callable[[], int],
        counters: Callable[[], Mapping[str, int]],
    ) -> None:
        self._registry = registry
        self._role = role
        self._instance = instance
        self._revision = revision
        self._counters = counters
        self._started_at = time.time()

    def status(self) -> ProcessStatus:
        """How it is now."""
        return ProcessStatus(
            role=self._role,
            instance=self._instance,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            revision=self._revision(),
            counters=dict(self._counters()),
        )

    async def run(self, *, interval: float) -> NoReturn:
        """Report every `interval` seconds until cancelled. While the store is away nobody hears it, and it goes on."""
        while True:
            try:
                await self._registry.report(self.status())
            except StoreUnavailable as error:
                _log.warning("this process could not report itself: %s", error)
            await asyncio.sleep(interval)

    async def withdraw(self) -> None:
        """This process ends in order: nobody need wonder where it is."""
        try:
            await self._registry.withdraw(self._instance)
        except StoreUnavailable as error:
            _log.warning("this process could not withdraw its report: %s", error)
