"""Weekly reports: those that are kept, and this week's as it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core import weeks
from multishadow_server.core.weeks import Week
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import NotFound
from multishadow_server.service import models, weekly_reports
from multishadow_server.service.ports import KeptReport

SECTION = "reports"
# A running week is worked out anew for who looks at it again after so long.
FRESH_SECONDS = 30.0
MOST_MADE = 32
# How a report is downloaded: by its ending.
_FORMS = {"html": "text/html", "md": "text/markdown", "json": "application/json"}


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/reports`, `/ui/reports/MODEL/WEEK`, and the same as a file: `/ui/reports/MODEL/WEEK/html`, `md`, `json`."""
    made = _Made(desk)

    async def listed(request: Request) -> Response:
        model = request.query_params.get("model", "")
        after = request.query_params.get("after", "")
        week, _, name = after.partition(",")
        page = await weekly_reports.page(
            desk.store, desk.weekly_reports, model=model, after_week=week, after_model=name
        )
        last = page.lines[-1] if page.lines else None
        return pages.render(
            request,
            "reports.html",
            section=SECTION,
            lines=page.lines,
            model=model,
            after=after,
            next_after=f"{last.week},{last.model}" if page.more and last else "",
            models=[view.model.name for view in await models.list_models(desk.store)],
            this_week=weeks.at(desk.clock()),
        )

    async def shown(request: Request) -> Response:
        model, week = request.path_params["model"], weeks.named(request.path_params["week"])
        report, is_kept = await made.found(model, week)
        return pages.render(
            request,
            "report.html",
            section=SECTION,
            line=report.line,
            fragment=report.texts.html,
            is_kept=is_kept,
            partial=report.line.built_at < week.ends_at,
        )

    async def downloaded(request: Request) -> Response:
        model, week = request.path_params["model"], weeks.named(request.path_params["week"])
        form = request.path_params["form"]
        if form not in _FORMS:
            raise NotFound(f"a report is there as {', '.join(_FORMS)}, not as {form}")
        report, _ = await made.found(model, week)
        content = {
            "html": lambda: desk.report_renderer.standalone(f"{model}, week {week}", report.texts.html),
            "md": lambda: report.texts.markdown,
            "json": lambda: report.texts.document,
        }[form]()
        name = f"{model}-{week}.{form}"
        return Response(
            content, media_type=_FORMS[form], headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    return [
        Route(f"{UI}/{SECTION}", listed),
        Route(f"{UI}/{SECTION}/{{model}}/{{week}}", shown),
        Route(f"{UI}/{SECTION}/{{model}}/{{week}}/{{form}}", downloaded),
    ]


class _Made:
    """Reports as they are found: those that are kept, and those of other weeks, made anew every so often.

    Working a week out takes a while, and many look at the same one: whoever asks while it is made waits for it.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._made: dict[tuple[str, Week], KeptReport] = {}
        self._making = asyncio.Lock()

    async def found(self, model: str, week: Week) -> tuple[KeptReport, bool]:
        """The report that is kept of a week, or else one that is made; and whether it is kept."""
        desk = self._desk
        if (kept := await desk.weekly_reports.kept(model, week)) is not None:
            return kept, True
        async with self._making:
            present = self._made.get((model, week))
            if present is None or desk.clock() - present.line.built_at >= FRESH_SECONDS:
                present = await weekly_reports.make(
                    desk.store,
                    desk.weekly_reports,
                    desk.report_renderer,
                    model=model,
                    week=str(week),
                    oldest_days=desk.hourly_counts_days,
                    now=desk.clock(),
                )
                # Few are looked at, at any time; none is worth more than its making.
                if len(self._made) >= MOST_MADE:
                    self._made.clear()
                self._made[model, week] = present
        return present, False
