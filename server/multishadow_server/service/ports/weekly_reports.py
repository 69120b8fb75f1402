"""Weekly reports that were made, and what else they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from multishadow_server.core.rollup import Rollup
from multishadow_server.core.weekly_report import Case, WeeklyReport
from multishadow_server.core.weeks import Week


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTexts:
    """A report as people and programs read it.

    Args:
        html: a fragment with its own styles, safe to be put into a page.
        markdown: the same without pictures.
        document: JSON with everything that is in it.
    """

    html: str
    markdown: str
    document: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportLine:
    """A report that is kept, in a line.

    Args:
        model, week: what it is on.
        built_at: seconds since the Unix epoch.
        headline: what it says, in a few words.
    """

    model: str
    week: Week
    built_at: float
    headline: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptReport:
    """A report that is kept."""

    line: ReportLine
    texts: ReportTexts


class ReportRenderer(Protocol):
    """Writes reports."""

    def render(self, report: WeeklyReport) -> ReportTexts:
        """In all forms; the same report is always written the same."""
        ...

    def standalone(self, title: str, fragment: str) -> str:
        """A whole HTML file of a fragment, which loads nothing from anywhere."""
        ...


class WeeklyReportStore(Protocol):
    """Where weekly reports are kept, and what only they ask of the store. Every method raises StoreUnavailable."""

    async def rollup_until(self, epoch_id: int, until: float) -> Rollup:
        """An epoch's counts of the buckets that started before a time, in seconds since the Unix epoch."""
        ...

    async def cases(self, epoch_id: int, version: str, *, since: float, until: float, most: int) -> Sequence[Case]:
        """Stored comparisons of that time in which a candidate diverged, the least similar first."""
        ...

    async def live_counts(self, model: str, *, since: float, until: float) -> Sequence[tuple[float, float, int]]:
        """What routers counted of callers' requests in or over that time: (began, told last, requests)."""
        ...

    async def keep(self, report: KeptReport) -> bool:
        """Keep a finished week's report, once: False when there is one already, which stays as it is."""
        ...

    async def kept(self, model: str, week: Week) -> KeptReport | None:
        """The report on that week; None when there is none."""
        ...

    async def lines(self, model: str = "", *, before: ReportLine | None = None, most: int) -> Sequence[ReportLine]:
        """Reports that are kept, the newest week first, then by model.

        Args:
            model: only this model's; empty: of all.
            before: only those that come after this one in that order.
            most: at most so many.
        """
        ...
