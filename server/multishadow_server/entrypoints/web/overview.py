"""The first page: every model, who answers callers and how well, and what goes on with it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/`."""

    async def overview(request: Request) -> Response:
        cards, alarms = await desk.cards.all()
        return pages.render(request, "overview.html", cards=cards, alarms=alarms, now=desk.clock())

    return [Route(f"{UI}/", overview)]
