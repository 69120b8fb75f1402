"""Reports on weeks that are over, as they were made then."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class WeeklyReportRow(Table, table=True):
    """A model's report on a week, such as `2026-W47`; by week first, because people read the newest.

    It is kept as it was written: what a later release counts or calls otherwise does not change what people decided by.
    """

    __tablename__ = "weekly_reports"

    week: str = Field(primary_key=True)
    model: str = Field(primary_key=True, foreign_key="model.name")
    built_at: datetime = Field(sa_type=MOMENT)
    headline: str
    html: str
    markdown: str
    document: str
