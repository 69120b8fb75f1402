"""`compare --watch`: the report, again and again, until Ctrl-C."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.text import Text

from multishadow.v1.control_pb2 import CompareResponse
from multishadow_client._errors import DeadlineExpired, Unavailable
from multishadow_client.cli import comparison_view, document, figures, terminal
from multishadow_client.cli.comparison_view import ComparisonView
from multishadow_client.cli.terminal import Format

_Show = Callable[[CompareResponse, str], None]


def watch(read: Callable[[], CompareResponse], *, output: Format, every: float) -> CompareResponse:
    """Show readings until the user interrupts; the last one is returned, and stays on the terminal.

    The first reading must succeed: a name that does not exist should not be watched for. Later ones may fail while
    control or its database is away; the view says so and keeps the last report.

    Args:
        read: asks control.
        output: JSON writes one line for each reading, YAML one document.
        every: seconds between readings.
    """
    latest, problem = read(), ""
    try:
        with _display(output) as show:
            while True:
                show(latest, problem)
                time.sleep(every)
                try:
                    latest, problem = read(), ""
                except (Unavailable, DeadlineExpired) as error:
                    problem = str(error)
    except KeyboardInterrupt:
        pass
    if _on_screen(output):
        terminal.show(output, comparison_view.render(latest), {})
    return latest


def _on_screen(output: Format) -> bool:
    return output is Format.TABLE and terminal.stdout().is_terminal


@contextmanager
def _display(output: Format) -> Iterator[_Show]:
    if not _on_screen(output):
        yield lambda response, problem: _append(response, problem, output)
        return
    # The alternate screen, as `watch` and `less` have it: what was on the terminal is there again afterwards.
    with Live(console=terminal.stdout(), screen=True, auto_refresh=False) as live:
        yield lambda response, problem: live.update(_page(response, problem), refresh=True)


def _page(response: CompareResponse, problem: str) -> Group:
    """The report as it fits a screen: what matters most stands on top, since a low terminal cuts off the rest."""
    read = Text(f"read at {figures.clock(response.read_at)} · Ctrl-C ends", style="dim")
    trouble = [Text(f"this is old: {problem}", style="bold red")] if problem else []
    return Group(read, *trouble, ComparisonView(response, advice_first=True))


def _append(response: CompareResponse, problem: str, output: Format) -> None:
    if problem:
        terminal.remark(problem)
    elif output is Format.JSON:
        sys.stdout.write(json.dumps(document.plain(response), ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()
    else:
        terminal.show(output, comparison_view.render(response), document.plain(response))
