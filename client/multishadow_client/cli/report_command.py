"""report: how a week went, for managers and engineers."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.text import Text
from typer.core import TyperCommand

from multishadow.v1 import reports_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import figures, report_table, selection, terminal
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Model, Server, Timeout, examples

EXAMPLES = examples(
    "shadowctl report --week",
    "shadowctl report --week 2026-W47 --format html -o w47.html",
    "shadowctl report --week 2026-W47 --model spam --format json | jq -r .summary",
    "shadowctl report --list",
    "shadowctl report --kept --week 2026-W46",
)
_WEEK = "--week"


class ReportFormat(StrEnum):
    """How a report is written."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"


_FORMATS = {
    ReportFormat.HTML: pb.REPORT_FORMAT_HTML,
    ReportFormat.MARKDOWN: pb.REPORT_FORMAT_MARKDOWN,
    ReportFormat.JSON: pb.REPORT_FORMAT_JSON,
}
_ENDINGS = {".html": ReportFormat.HTML, ".htm": ReportFormat.HTML, ".json": ReportFormat.JSON}


class CommandWithWeek(TyperCommand):
    """A command whose `--week` may stand alone, for this week."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # click's own type
        """Give a `--week` without a value an empty one."""
        whole: list[str] = []
        for place, argument in enumerate(args):
            alone = argument == _WEEK and (place + 1 == len(args) or args[place + 1].startswith("-"))
            whole.append(f"{_WEEK}=" if alone else argument)
        return super().parse_args(ctx, whole)


def report(
    *,
    week: Annotated[
        str,
        typer.Option(
            _WEEK, metavar="[WEEK]", help="By ISO 8601, such as 2026-W47; default: this week.", show_default=False
        ),
    ] = "",
    format_: Annotated[
        ReportFormat | None,
        typer.Option("--format", "-f", help="Default: by the file's ending, or md.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.", show_default=False)
    ] = None,
    kept: Annotated[
        bool, typer.Option("--kept", help="The one that control made by schedule, as it was then.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List those that control made by schedule.")] = False,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Report on a week of a model: what diverged and why, what is wrong, which gates hold, what it costs, what to do.

    Weeks begin on Monday 00:00 UTC; a week that is not over is marked as partial. The first paragraph is for everybody,
    the figures behind it stand below, and JSON holds all of them.
    """
    with ControlClient(server, timeout=timeout) as control:
        if list_:
            _list(control, model)
            return
        form = format_ or (_ENDINGS.get(file.suffix.lower()) if file else None) or ReportFormat.MARKDOWN
        name = selection.model(model, control)
        wanted = _FORMATS[form]
        if kept:
            if not week:
                raise Mistake("--kept: say which week, with --week 2026-W47; `shadowctl report --list` lists them")
            got = control.get_weekly_report(pb.GetWeeklyReportRequest(model=name, week=week, format=wanted))
            content = got.content
        else:
            made = control.build_weekly_report(pb.BuildWeeklyReportRequest(model=name, week=week, format=wanted))
            content = made.content
    _write(content, form, file)


def _write(content: str, form: ReportFormat, file: Path | None) -> None:
    if file is not None and str(file) != "-":
        try:
            file.write_text(content, encoding="utf-8")
        except OSError as error:
            raise Mistake(f"cannot write {file}: {error.strerror}") from error
        terminal.remark(f"written to {file}")
        return
    console = terminal.stdout()
    if form is ReportFormat.MARKDOWN and console.is_terminal:
        console.print(Markdown(content))
        return
    sys.stdout.write(content if content.endswith("\n") else content + "\n")
    sys.stdout.flush()


def _list(control: ControlClient, model: str) -> None:
    response = control.list_weekly_reports(pb.ListWeeklyReportsRequest(model=model))
    if not response.reports:
        terminal.stdout().print(Text("no report is kept yet: control makes one when a week is over", style="dim"))
        return
    table = report_table.table(("week", "left"), ("model", "left"), ("made", "left"), ("what it says", "left"))
    for line in response.reports:
        report_table.add_row(table, line.week, line.model, figures.moment(line.built_at), line.headline)
    terminal.stdout().print(table)
    if response.more:
        terminal.remark("there are more; name a --model, or look at them on the web page")
