"""`--watch`: readings, again and again, until Ctrl-C or until nothing more is to come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from multishadow.v1.alarms_pb2 import ListAlarmsResponse
from multishadow.v1.control_pb2 import CompareResponse
from multishadow.v1.rollouts_pb2 import GetRolloutResponse
from multishadow_client._errors import DeadlineExpired, Unavailable
from multishadow_client.cli import document, figures, terminal
from multishadow_client.cli.terminal import Format

Reading = TypeVar("Reading", bound=CompareResponse | GetRolloutResponse | ListAlarmsResponse)


class Watch(Generic[Reading]):
    """Shows readings as they come.

    Args:
        output: JSON writes one line for each reading, YAML one document.
        every: seconds between readings.
        page: a reading as it fits a screen: what matters most on top, since a low terminal cuts off the rest.
        render: a reading as it stays.
        ended: whether no other reading is worth waiting for.
    """

    def __init__(
        self,
        *,
        output: Format,
        every: float,
        page: Callable[[Reading], RenderableType],
        render: Callable[[Reading], RenderableType],
        ended: Callable[[Reading], bool] = lambda _: False,
    ) -> None:
        self._output = output
        self._every = every
        self._page = page
        self._render = render
        self._ended = ended

    def watch(self, read: Callable[[], Reading]) -> Reading:
        """Show readings until the user interrupts or they end; the last one is returned, and stays on the terminal.

        The first reading must succeed: a name that does not exist should not be watched for. Later ones may fail while
        control or its database is away; the view says so and keeps the last one.
        """
        latest, problem = read(), ""
        try:
            with self._display() as show:
                while True:
                    show(latest, problem)
                    if self._ended(latest):
                        break
                    time.sleep(self._every)
                    try:
                        latest, problem = read(), ""
                    except (Unavailable, DeadlineExpired) as error:
                        problem = str(error)
        except KeyboardInterrupt:
            pass
        if self._on_screen:
            terminal.show(self._output, self._render(latest), {})
        return latest

    @property
    def _on_screen(self) -> bool:
        return self._output is Format.TABLE and terminal.stdout().is_terminal

    @contextmanager
    def _display(self) -> Iterator[Callable[[Reading, str], None]]:
        if not self._on_screen:
            yield self._append
            return
        # The alternate screen, as `watch` and `less` have it: what was on the terminal is there again afterwards.
        with Live(console=terminal.stdout(), screen=True, auto_refresh=False) as live:
            yield lambda reading, problem: live.update(self._screen(reading, problem), refresh=True)

    def _screen(self, reading: Reading, problem: str) -> Group:
        read = Text(f"read at {figures.clock(reading.read_at)} · Ctrl-C ends", style="dim")
        trouble = [Text(f"this is old: {problem}", style="bold red")] if problem else []
        return Group(read, *trouble, self._page(reading))

    def _append(self, reading: Reading, problem: str) -> None:
        if problem:
            terminal.remark(problem)
        elif self._output is Format.JSON:
            sys.stdout.write(json.dumps(document.plain(reading), ensure_ascii=False, allow_nan=False) + "\n")
            sys.stdout.flush()
        else:
            terminal.show(self._output, self._render(reading), document.plain(reading))
