"""The flags that are served, revision after revision, and everybody who waits for the next one.

Who follows compares what it has seen with what there is now, so a slow reader skips revisions and holds up nobody:
there is no queue that could fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flag_sets import Selector
from multishadow_server.errors import EvaluationFailed, Unavailable
from multishadow_server.service.ports import Evaluation, FlagType, PublishedFlags

Flags = TypeVar("Flags", bound=PublishedFlags)
# How long who opens a stream waits for the first reading: a client that is turned away comes back after seconds.
FIRST_READING_SECONDS = 2.0


class FlagFeed(Generic[Flags]):
    """What is served now.

    Args:
        publish: makes a configuration's flags ready; it is given the former ones, too.
        age: seconds since the flags were last known to be the present ones.
        stale_after: age from which answers say that they may be out of date, seconds.

    Attributes:
        first_read: set by the first reading.
    """

    def __init__(
        self,
        publish: Callable[[Configuration, Flags | None], Flags],
        *,
        age: Callable[[], float],
        stale_after: float,
    ) -> None:
        self._publish = publish
        self._age = age
        self._stale_after = stale_after
        self._flags: Flags | None = None
        self._news = asyncio.Event()
        self._closed = False
        self._following = 0
        self.first_read = asyncio.Event()

    def load(self, configuration: Configuration) -> None:
        """Serve this configuration's flags from now on. A call that is under way keeps those that it began with."""
        self._flags = self._publish(configuration, self._flags)
        self.first_read.set()
        self._wake()

    def close(self) -> None:
        """End everybody's waiting: they are told to come back later."""
        self._closed = True
        self._wake()

    @property
    def is_ready(self) -> bool:
        """Whether flags were ever read."""
        return self._flags is not None

    @property
    def age(self) -> float:
        """Seconds since the flags were last known to be the present ones; infinite before the first reading."""
        return self._age()

    @property
    def is_stale(self) -> bool:
        """Whether it has not been known for a while that these are the present flags."""
        return self._age() > self._stale_after

    @property
    def flags(self) -> Flags:
        """Those of the newest revision that was read.

        Raises:
            Unavailable: none was read yet. Nobody is ever told that there are no flags because of that.
        """
        if self._flags is None:
            raise Unavailable("the flags were not read yet: control cannot reach its database. Try again in a moment")
        return self._flags

    def evaluate(
        self, key: str, context: Mapping[str, Any], *, wanted: FlagType | None = None, selector: Selector
    ) -> Evaluation:
        """One flag, marked `stale` when the flags may be out of date. Raises EvaluationFailed, Unavailable."""
        return self._marked(self.flags.evaluate(key, context, wanted=wanted, selector=selector))

    def evaluate_all(
        self, context: Mapping[str, Any], *, selector: Selector
    ) -> Sequence[Evaluation | EvaluationFailed]:
        """Every flag that is selected, by key; one that gives no value costs the others nothing. Raises Unavailable."""
        flags = self.flags
        return [self._attempt(flags, key, context, selector) for key in flags.keys(selector)]

    def _attempt(
        self, flags: Flags, key: str, context: Mapping[str, Any], selector: Selector
    ) -> Evaluation | EvaluationFailed:
        try:
            return self._marked(flags.evaluate(key, context, selector=selector))
        except EvaluationFailed as error:
            return error

    def _marked(self, evaluation: Evaluation) -> Evaluation:
        if not self.is_stale:
            return evaluation
        return replace(evaluation, metadata={**evaluation.metadata, "stale": True})

    async def first(self) -> Flags:
        """The flags, once they were read. Raises Unavailable when that takes longer than a moment, or control stops."""
        if not self.is_ready:
            await self._waited(FIRST_READING_SECONDS)
        self._refuse_when_closed()
        return self.flags

    async def newer(self, than: Flags, *, within: float) -> Flags | None:
        """The newest flags, as soon as they are others than these; None after `within` seconds.

        Raises:
            Unavailable: control stops.
        """
        self._following += 1
        try:
            if self._flags is than:
                await self._waited(within)
        finally:
            self._following -= 1
        self._refuse_when_closed()
        return None if self._flags is than else self._flags

    async def reach(self, revision: int, *, within: float) -> None:
        """Return as soon as flags of this revision, or of a later one, are served; at the latest after `within`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while not self._closed and self.flags.revision < revision and loop.time() < deadline:
            await self._waited(deadline - loop.time())

    def counters(self) -> Mapping[str, int]:
        """How many streams wait for changes, and how many flags are not handed on."""
        left_out = len(self._flags.left_out) if self._flags is not None else 0
        return {"flags.streams": self._following, "flags.left_out": left_out}

    def _wake(self) -> None:
        # An event of its own for each change: who wakes late finds the next one fresh.
        self._news.set()
        self._news = asyncio.Event()

    async def _waited(self, seconds: float) -> None:
        if self._closed:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Unavailable("control is stopping; come back in a moment")
