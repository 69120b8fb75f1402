"""Control's metrics, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.dead_letters import PostgresDeadLetters
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts
from multishadow_server.app import measuring
from multishadow_server.core.control_metrics import ControlStanding, of_control
from multishadow_server.core.metric_samples import Sample
from multishadow_server.core.process_metrics import FlagStanding
from multishadow_server.service.flag_feed import FlagFeed
from multishadow_server.service.standing import StandingReader

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

Counters = Callable[[], Mapping[str, int]]


class ControlMetrics:
    """What control exposes at `/metrics`.

    Args:
        feed: the flags that it serves.
        stale_after: age in seconds from which they are stale.
        reader: reads how everything stands.
    """

    def __init__(self, feed: FlagFeed[Any], *, stale_after: float, reader: StandingReader) -> None:
        self._feed = feed
        self._stale_after = stale_after
        self._reader = reader
        self._counters: Counters = dict

    def counting(self, counters: Counters) -> Counters:
        """Expose these counters, too; returns them."""
        self._counters = counters
        return counters

    def routes(self) -> Sequence[BaseRoute]:
        """`/metrics`."""
        return measuring.routes("control", measuring.Source(self._read), before=self._reader.refresh)

    def _read(self) -> Iterator[Sample]:
        revision = self._feed.flags.revision if self._feed.is_ready else 0
        return of_control(
            ControlStanding(
                counters=self._counters(),
                flags=FlagStanding(revision=revision, age=self._feed.age, stale_after=self._stale_after),
                standing=self._reader.standing,
                age=self._reader.age,
                failures=self._reader.failures,
            )
        )


def measure(database_url: str, feed: FlagFeed[Any], *, stale_after: float, stack: AsyncExitStack) -> ControlMetrics:
    """Control's metrics, until the stack ends."""
    # Who watches must never have the connections that a rollback needs.
    engine = open_engine(database_url, pool_size=1)
    stack.push_async_callback(engine.dispose)
    reader = StandingReader(
        PostgresControl(engine), PostgresAlarms(engine), PostgresRollouts(engine), PostgresDeadLetters(engine)
    )
    stack.push_async_callback(reader.aclose)
    return ControlMetrics(feed, stale_after=stale_after, reader=reader)
