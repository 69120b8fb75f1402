"""What all roles do while they run: work in the background, and say how they are."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres.schema import Standing, read_schema
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.ending import end, set_within, unless_set
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.settings import Settings

Result = TypeVar("Result")

# Longest time that a role which ends spends on saying so.
WITHDRAW_SECONDS = 1.0
LAST_SECONDS = 1.0
SCHEMA_SECONDS = 0.5

_logger = logging.getLogger(__name__)


def status(
    role: str,
    settings: Settings,
    *,
    revision: Callable[[], int],
    counters: Callable[[], Mapping[str, int]],
    flag_source: Callable[[], str] = str,
) -> Callable[[], ProcessStatus]:
    """What this process says of itself, whenever it is asked."""
    started_at, program = time.time(), metadata.version("multishadow")
    return lambda: ProcessStatus(
        role=role,
        instance=settings.instance,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=started_at,
        revision=revision(),
        counters=counters(),
        flag_source=flag_source(),
        program=program,
    )


class Drain:
    """How long a role that stops still has, for everything that it finishes one after the other.

    Args:
        seconds: from when it begins.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def begin(self) -> None:
        """It stops now."""
        self._until = time.monotonic() + self._seconds

    @property
    def left(self) -> float:
        """Seconds; a second at least, for what takes no time unless something is away."""
        return self._seconds if self._until is None else max(LAST_SECONDS, self._until - time.monotonic())


async def usable_schema(engine: AsyncEngine, stop: asyncio.Event) -> bool:
    """Wait until the database has this program's schema, or a newer one; False when `stop` was set first.

    A database that is away is not waited for here: the role knows how to do without it.
    """
    waiting = False
    while not stop.is_set():
        try:
            schema = await read_schema(engine)
        except StoreUnavailable:
            return True
        if schema.usable:
            if waiting or schema.standing is Standing.NEWER:
                _logger.warning("%s", schema)
            return True
        if not waiting:
            _logger.warning("waiting for the schema: %s", schema)
        waiting = True
        await set_within(stop, SCHEMA_SECONDS)
    return False


@asynccontextmanager
async def background(work: Coroutine[Any, Any, object], *, linger: float = 0.0) -> AsyncIterator[None]:
    """Run it beside the block. When it fails, so does the block; it is cancelled `linger` seconds after the block."""
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            try:
                yield
                await asyncio.wait((task,), timeout=linger)
            finally:
                # Also when the block fails: a group cancels its tasks once, and once may be lost.
                await end(task)
    except BaseExceptionGroup as group:
        # One thing went wrong: whoever started the role wants that, not a group of one.
        raise group.exceptions[0] from group


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What the work comes to; None when `stop` was set first."""
    results: list[Result] = []

    async def keep() -> None:
        results.append(await work)

    await unless_set(stop, keep())
    return results[0] if results else None
