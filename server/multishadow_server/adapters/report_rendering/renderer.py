"""A ReportRenderer: Jinja for HTML, plain Python for the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from multishadow_server.adapters.report_rendering import markdown, pictures, tables
from multishadow_server.core import report_document, week_words
from multishadow_server.core.weekly_report import WeeklyReport
from multishadow_server.service.ports import ReportTexts

_HERE = Path(__file__).parent
_COMMAND = re.compile(r"`([^`]+)`")


class WeeklyReportRenderer:
    """A ReportRenderer: what it writes loads nothing from anywhere, and shows markup in values as text."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(_HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            prose=prose,
            per_cent=week_words.per_cent,
            minute=week_words.minute,
            day=week_words.day,
            span=week_words.span,
            milliseconds=week_words.milliseconds,
            money=week_words.money,
        )
        self._templates.globals.update(tables=tables, pictures=pictures)
        self._style = (_HERE / "report.css").read_text(encoding="utf-8")

    def render(self, report: WeeklyReport) -> ReportTexts:
        """In all forms; the same report is always written the same."""
        return ReportTexts(
            html=self._templates.get_template("report.html").render(report=report, style=self._style),
            markdown=markdown.render(report),
            document=json.dumps(
                report_document.document(report), indent=2, ensure_ascii=False, allow_nan=False, sort_keys=False
            ),
        )

    def standalone(self, title: str, fragment: str) -> str:
        """A whole HTML file of a fragment, which loads nothing from anywhere."""
        return self._templates.get_template("standalone.html").render(title=title, fragment=fragment)


def prose(text: str) -> Markup:
    """A sentence of ours for HTML: commands as code, and no line break between a number and its unit."""
    shown = _COMMAND.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(shown.replace(" %", "\N{NO-BREAK SPACE}%"))  # noqa: S704  escaped above
