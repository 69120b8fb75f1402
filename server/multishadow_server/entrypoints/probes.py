"""Whether this process lives, and whether it can serve flags: for the probes of whatever runs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from multishadow_server.service.flag_feed import FlagFeed


def routes(feed: FlagFeed[Any], *, leaving: Callable[[], bool]) -> Sequence[BaseRoute]:
    """`/healthz`: it lives. `/readyz`: it has flags to serve, and how old they may be; no longer when it is leaving."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if leaving():
            return JSONResponse({"status": "it is stopping"}, status_code=503)
        if not feed.is_ready:
            return JSONResponse({"status": "the flags were not read yet"}, status_code=503)
        # Flags that may be out of date are served all the same: a process that is taken out for it helps nobody.
        flags = {
            "revision": feed.flags.revision,
            "ageSeconds": None if math.isinf(feed.age) else round(feed.age, 3),
            "stale": feed.is_stale,
            "leftOut": dict(feed.flags.left_out),
        }
        return JSONResponse({"status": "ok", "flags": flags})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
