"""Control makes the report on every week that is over, and keeps it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from multishadow_server.core import weeks
from multishadow_server.core.weeks import Due, Week
from multishadow_server.errors import MultishadowError, StoreUnavailable
from multishadow_server.service import weekly_reports
from multishadow_server.service.ending import set_within
from multishadow_server.service.ports import ControlStore, ReportRenderer, WeeklyReportStore

INTERVAL_SECONDS = 60.0
# Control that was away for a month makes up for it.
WEEKS_BACK = 4

_log = logging.getLogger(__name__)


class WeeklyRounds:
    """One control process's rounds; several processes may make them at once.

    A report is kept by its model and week, once: of several controls that make the same one, the first that keeps it
    does, and the others' are thrown away. So one that dies in between leaves nothing half done.

    Args:
        store: where experiments and counts are.
        reports: where reports are kept.
        renderer: writes them.
        due: when, after a week's end.
        oldest_days: see `weekly_reports.build`.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        store: ControlStore,
        reports: WeeklyReportStore,
        renderer: ReportRenderer,
        *,
        due: Due,
        oldest_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._reports = reports
        self._renderer = renderer
        self._due = due
        self._oldest_days = oldest_days
        self._clock = clock
        self._made = 0
        self._failed = 0

    def counters(self) -> Mapping[str, int]:
        """What was done since the start."""
        return {"weekly_reports.made": self._made, "weekly_reports.failed": self._failed}

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds until `stop` is set. What could not be made is made later."""
        while not stop.is_set():
            try:
                await self.round()
            except MultishadowError as error:
                self._failed += 1
                _log.warning("weekly reports: %s", error)
            except Exception:  # noqa: BLE001  control does not end because of a report
                self._failed += 1
                _log.exception("a round of weekly reports failed")
            await set_within(stop, INTERVAL_SECONDS)

    async def round(self) -> int:
        """Make the reports that are due and not there yet; returns how many this call kept.

        Raises:
            StoreUnavailable: the database is away.
        """
        made = 0
        for week in self._weeks_due():
            for model in await weekly_reports.models_with_experiments(self._store, week):
                try:
                    made += await self._make(model, week)
                except StoreUnavailable:
                    raise
                except Exception:  # noqa: BLE001  one model's report is no reason to make none of the others'
                    self._failed += 1
                    _log.exception("the report on %s of %s failed", week, model)
        self._made += made
        return made

    def _weeks_due(self) -> list[Week]:
        """The last weeks that are over and due, oldest first."""
        now, week, found = self._clock(), weeks.at(self._clock()), list[Week]()
        for _ in range(WEEKS_BACK):
            week = week.previous
            if self._due.after(week) <= now and week.starts_at >= now - 86_400.0 * self._oldest_days:
                found.append(week)
        return found[::-1]

    async def _make(self, model: str, week: Week) -> bool:
        if await self._reports.kept(model, week) is not None:
            return False
        report = await weekly_reports.make(
            self._store,
            self._reports,
            self._renderer,
            model=model,
            week=str(week),
            oldest_days=self._oldest_days,
            now=self._clock(),
            to_keep=True,
        )
        if not await self._reports.keep(report):
            return False
        _log.info("the report on %s of %s is kept: %s", week, model, report.line.headline)
        return True
