"""Ending tasks for certain, and work that is to end when something else does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

# How long a task may take to end before it is told again, seconds.
PATIENCE_SECONDS = 1.0
# The same where a task that is being ended ends its own: they are told again before it is, or would be left behind.
INNER_PATIENCE_SECONDS = 0.2


async def end(*tasks: asyncio.Task[Any] | None, patience: float = PATIENCE_SECONDS) -> None:
    """Cancel these and return when all have ended, however they ended. None is a task that was never begun.

    They are told until they hear it. One cancellation can be lost on its way up: a library that fails while it tidies
    up raises its own error instead, which a loop that retries takes for one of many; and `asyncio.wait_for` of Python
    3.11 returns a result that came in the same instant. A worker that waited for such a task once stood still for good.
    """
    begun = [task for task in tasks if task is not None]
    for task in begun:
        # Also when whoever ends them is ended meanwhile: nobody is to be told of an error that nobody waits for.
        if task.done():
            _look_at(task)
        else:
            task.add_done_callback(_look_at)
    pending = {task for task in begun if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=patience)


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until it is set, for so long at most; whether it is.

    Not by `asyncio.wait_for`: Python 3.11's loses a cancellation that comes in the instant in which the event is set.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def unless_set(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Do the work; when `stop` is set before it is done, cancel it and return False."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        await end(working, stopping)
