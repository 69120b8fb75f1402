"""Metrics of each role, put together: where its state is read, and where it is served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multishadow_server.adapters.tls import ServingTls
from multishadow_server.core.metric_samples import Sample
from multishadow_server.core.process_metrics import LogStanding
from multishadow_server.service.ports import LogState
from multishadow_server.settings import Settings

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

# A scrape that is under way is not worth waiting for.
DRAIN_SECONDS = 1.0


@dataclass(slots=True)
class Source:
    """Where a process's metrics are read; nothing is known before its parts are made."""

    read: Callable[[], Iterable[Sample]] = tuple


async def expose(
    settings: Settings,
    role: str,
    serving: ServingTls | None,
    stack: AsyncExitStack,
    *,
    ready: Callable[[str], None],
) -> Source:
    """Serve the metrics of a router or worker at MULTISHADOW_METRICS_LISTEN, where that is set, until the stack ends.

    They are served before anything else is there, so that whoever watches sees a process that waits. The source is told
    where to read them once it is.

    Raises:
        InvalidInput: the address is none.
        FailedPrecondition: it cannot be had.
    """
    source = Source()
    if settings.metrics_listen is None:
        return source
    # A router that nobody watches has no use for what HTTP is made with.
    from multishadow_server.entrypoints.http import HttpServer, application  # noqa: PLC0415

    server = HttpServer(
        application(routes(role, source)),
        drain_seconds=DRAIN_SECONDS,
        tls=None if serving is None else serving.ssl_context(),
        option="MULTISHADOW_METRICS_LISTEN",
    )
    stack.push_async_callback(server.stop)
    ready(await server.start(settings.metrics_listen))
    return source


def routes(role: str, source: Source, *, before: Callable[[], Awaitable[None]] | None = None) -> Sequence[BaseRoute]:
    """`/metrics` of a process; `before` is waited for first, each time."""
    from multishadow_server.adapters.prometheus_text import CONTENT_TYPE, Exposition  # noqa: PLC0415  as above
    from multishadow_server.entrypoints import metrics  # noqa: PLC0415  as above

    # Looked up each time: it is set later.
    exposition = Exposition(role, lambda: source.read())  # noqa: PLW0108  as said

    async def text() -> bytes:
        if before is not None:
            await before()
        return await exposition.text()

    return metrics.routes(text, content_type=CONTENT_TYPE)


def log_standing(log: LogState | None) -> LogStanding | None:
    """What the log told, as metrics have it."""
    if log is None:
        return None
    return LogStanding(lag=log.lag, fill=log.fill, messages=log.messages, size=log.size)
