"""The `multishadow` command as a user runs it: a process of its own, with whatever it starts."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from multishadow_server.adapters.embedded import dies_with_parent
from multishadow_server.adapters.processes import multishadow
from waiting import PATIENCE, until_sync

MARK = "MULTISHADOW_TEST_RUN"


class Running:
    """A running command. Everything that it starts inherits a mark, by which it is found again."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            multishadow(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A killed test run leaves nothing behind either.
            preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
            env={**os.environ, "COLUMNS": "100", **(environment or {}), MARK: self._mark},
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        """All that it has said and that was read so far."""
        return "".join(self.lines)

    def line_with(self, text: str, *, within: float = PATIENCE) -> str:
        """Wait for a line that holds `text`; lines before it were read, too."""
        deadline = time.monotonic() + within
        while True:
            line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, f"it ended without saying {text!r}:\n{self.output}"
            self.lines.append(line)
            if text in line:
                return line.rstrip()

    def ended(self, *, within: float = PATIENCE) -> int:
        """Wait until it ends; return its exit code."""
        code = self.process.wait(within)
        self._reader.join(within)
        while (line := self._queue.get_nowait()) is not None:
            self.lines.append(line)
        self._queue.put(None)
        return code

    def family(self) -> list[psutil.Process]:
        """Every process that it started, and that lives, however it is detached; itself among them."""
        return [process for process in psutil.process_iter() if _marked(process, self._mark)]

    def left_nothing_running(self) -> bool:
        """Wait until no process of it lives."""
        until_sync(lambda: not self.family())
        return True

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)


@contextmanager
def running(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a command; whatever is left of it when the block ends is killed."""
    command = Running(*arguments, environment=environment)
    try:
        yield command
    finally:
        for process in command.family():
            process.kill()
        command.process.wait()
        assert command.process.stdout is not None
        command.process.stdout.close()


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
