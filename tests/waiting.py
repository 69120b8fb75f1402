"""Waiting for a condition, with a deadline: the one place where tests let time pass."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE = 60.0
"""Seconds that a crowded machine may need for what takes a moment elsewhere: the deadline of what is to succeed."""
PAUSE = 0.01


async def until(condition: Callable[[], object | Awaitable[object]], *, within: float = PATIENCE) -> None:
    """Return as soon as `condition` is true; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"not true within {within:g} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(PAUSE)


def until_sync(condition: Callable[[], object], *, within: float = PATIENCE) -> None:
    """The same without an event loop."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not true within {within:g} s: {inspect.getsource(condition).strip()}"
        time.sleep(PAUSE)
