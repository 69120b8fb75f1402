"""The first page: every model, what is live now, and what its experiment comes to so far."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.service import models


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/`."""

    async def overview(request: Request) -> Response:
        views = await models.list_models(desk.store)
        return pages.render(request, "overview.html", models=views)

    return [Route(f"{UI}/", overview)]
