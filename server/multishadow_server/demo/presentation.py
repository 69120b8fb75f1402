"""How the demonstration looks: live tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from multishadow.v1 import control_pb2 as control
from multishadow_client.cli import comparison_view, gates_view

PLAIN_LINE_SECONDS = 5.0


class Stage:
    """Where the demonstration speaks, and where it keeps the score of what it checked.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failures: list[str] = []

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self.console.print()
        self.console.print(f"[bold]{title}[/bold]", highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Say one line; Rich markup is allowed."""
        # Whoever reads it decides how wide it is; a log's lines stay whole.
        self.console.print(f"  {line}", highlight=False, soft_wrap=True)

    def check(self, *, holds: bool, claim: str) -> None:
        """Say a claim with whether it holds; one that does not fails the demonstration."""
        if not holds:
            self.failures.append(claim)
        mark = "[green]✓[/green]" if holds else "[bold red]✗ not so:[/bold red]"
        self.say(f"{mark} {claim}")

    def show(self, comparison: control.CompareResponse) -> None:
        """Print a whole comparison, as `shadowctl compare` does."""
        self.console.print(comparison_view.render(comparison))

    def show_gates(self, gates: control.ListGatesResponse) -> None:
        """Print what has to hold before a promotion, as `shadowctl gates` does."""
        self.console.print(gates_view.render(gates.reviews))

    @contextmanager
    def progress(self, totals: Mapping[str, int]) -> Iterator[ProgressView]:
        """A view of how far each model's traffic is, while the block runs."""
        if not self.console.is_terminal:
            yield PlainView(self, totals)
            return
        with Live(console=self.console, transient=True, refresh_per_second=5) as live:
            yield LiveView(live, totals)


class ProgressView(Protocol):
    """How far each model's traffic is, with its comparison so far."""

    def update(self, sent: Mapping[str, int], comparisons: Mapping[str, control.CompareResponse], now: float) -> None:
        """Show this; `now` is on any clock that counts seconds."""
        ...


class PlainView:
    """A line for each model every few seconds, for logs."""

    def __init__(self, stage: Stage, totals: Mapping[str, int]) -> None:
        self._stage = stage
        self._totals = totals
        self._next = 0.0
        self._last: Mapping[str, int] = {}

    def update(self, sent: Mapping[str, int], comparisons: Mapping[str, control.CompareResponse], now: float) -> None:
        """Print when it is time again."""
        if now < self._next:
            return
        self._next = now + PLAIN_LINE_SECONDS
        if sent == self._last:
            return
        self._last = dict(sent)
        for model, comparison in comparisons.items():
            self._stage.say(f"{model} {sent[model]:>5,}/{self._totals[model]:,}  {in_a_line(comparison)}")


class LiveView:
    """Bars and a table that change in place, for terminals."""

    def __init__(self, live: Live, totals: Mapping[str, int]) -> None:
        self._live = live
        self._progress = Progress(
            TextColumn("  {task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._tasks = {model: self._progress.add_task(model, total=total) for model, total in totals.items()}

    def update(self, sent: Mapping[str, int], comparisons: Mapping[str, control.CompareResponse], now: float) -> None:
        """Move the bars and renew the table."""
        del now
        for model, task in self._tasks.items():
            self._progress.update(task, completed=sent[model])
        self._live.update(Group(self._progress, _table(comparisons)))


def in_a_line(comparison: control.CompareResponse) -> str:
    """Every candidate's divergence with its confidence sequence, and whether the ranking is decided."""
    rates = "   ".join(f"{report.version} {_rate(report)}" for report in comparison.candidates)
    return f"{rates}   {_state(comparison)}"


def _rate(report: control.CandidateReport) -> str:
    if not report.HasField("divergence"):
        return "–"
    rate = report.divergence
    return f"{100 * rate.estimate:.1f} % ({100 * rate.lower:.1f}–{100 * rate.upper:.1f})"


def _rank(report: control.CandidateReport) -> str:
    if not report.ranked:
        return "–"
    best, worst = report.rank_best, report.rank_worst
    return str(best) if best == worst else f"{best}–{worst}"


def _state(comparison: control.CompareResponse) -> str:
    if comparison.state == "decided":
        return f"decided: {comparison.winner}" if comparison.winner else "decided"
    return comparison.state.replace("_", " ")


def _table(comparisons: Mapping[str, control.CompareResponse]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=True)
    for title in ("model", "version", "compared", "diverges (95 % at every look)", "rank", ""):
        table.add_column(title, justify="right" if title == "compared" else "left")
    for model, comparison in comparisons.items():
        for number, report in enumerate(comparison.candidates):
            table.add_row(
                model if number == 0 else "",
                report.version,
                f"{report.n:,}",
                _rate(report),
                _rank(report),
                _state(comparison) if number == 0 else "",
            )
    return table
