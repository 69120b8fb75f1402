"""Threads for calls that may block, so that the event loop never does."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class ReadingThreads:
    """At most so many calls at once, each in a thread of its own; one more is refused, not queued.

    A queue before calls that hang would only make everybody wait for what nobody gets. The threads are daemons, unlike
    those of `ThreadPoolExecutor`, for which the interpreter waits at its end: one that hangs for good must not keep the
    process from ending. Use it from one event loop.

    Args:
        count: most calls at once.
        name: of the threads.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._busy = 0

    def run(self, call: Callable[[], Result]) -> asyncio.Future[Result] | None:
        """Begin the call, in this context; None when all threads are busy."""
        if self._busy == self._count:
            return None
        self._busy += 1
        if self._busy > len(self._threads):
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            thread.start()
            self._threads.append(thread)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        # What was set for this request (a transaction's context) is seen in the thread as it would be here.
        context = contextvars.copy_context()

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = context.run(call)
            except BaseException as raised:  # noqa: BLE001  it is handed on
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(self._finish, future, result, error)

        self._work.put(work)
        return future

    def close(self) -> None:
        """Let the threads end, each after its present call."""
        for _ in self._threads:
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _finish(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        self._busy -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
