"""`/metrics`: what a process exposes to Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route


def routes(text: Callable[[], Awaitable[bytes]], *, content_type: str) -> Sequence[BaseRoute]:
    """The values as they are when somebody asks; neither PostgreSQL nor the log is waited for.

    Args:
        text: writes them.
        content_type: what it writes them in.
    """

    async def metrics(_: Request) -> Response:
        return Response(await text(), headers={"content-type": content_type, "cache-control": "no-store"})

    return [Route("/metrics", metrics)]
