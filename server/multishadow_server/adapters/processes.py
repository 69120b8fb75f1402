"""Child processes of one machine: started, watched, restarted when they crash, and ended with their parent.

A child says that it serves by one line on its standard output that ends in ` ready on <address>`; one that ends in
` http on <address>` may come before it. Its log goes to standard error, which it shares with its parent.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from multishadow_server.adapters.embedded import dies_with_parent
from multishadow_server.errors import EngineFailed
from multishadow_server.service.ending import end

START_SECONDS = 60.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
# Who lived that long was healthy: its next crash is a new trouble, not the same one again.
HEALTHY_SECONDS = 30.0
_READY = re.compile(r" ready on (\S+)$")
_HTTP = re.compile(r" http on (\S+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What one child runs.

    Args:
        name: what people call it, e.g. "router-1".
        command: program and arguments.
        environment: variables beside those of this process.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def multishadow(*arguments: str) -> Sequence[str]:
    """The command line of `multishadow`, run by this very Python.

    -P keeps modules of the working folder from standing in for real ones.
    """
    return (sys.executable, "-P", "-m", "multishadow_server", *arguments)


class Child:
    """One supervised program.

    Args:
        program: what it runs; may be replaced, for its next start.
        report: told in a line what happens to it and what it says.
    """

    def __init__(self, program: Program, report: Callable[[str], None]) -> None:
        self.program = program
        self.address = ""
        self.http_address = ""
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._listen: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> str:
        """Start it and wait until it serves; from then on a crash restarts it.

        Returns:
            The address that it serves on.

        Raises:
            EngineFailed: it ended, or said nothing for a minute. Why stands in its log.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._launch()
        except TimeoutError:
            await self.stop(within=0.0)
            raise EngineFailed(f"{self.program.name} was not ready within {START_SECONDS:.0f} s") from None
        if not self.address:
            raise EngineFailed(f"{self.program.name} did not start ({await self._ending()}); its own message is above")
        self._watch = asyncio.create_task(self._restart_forever(), name=f"watch {self.program.name}")
        return self.address

    async def stop(self, *, within: float) -> None:
        """Ask it to end (SIGTERM), and end it (SIGKILL) when it takes longer than `within` seconds."""
        await end(self._watch)  # first, so that nothing starts it again
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await self._gone()
        except TimeoutError:
            if within > 0:
                self._report(f"{self.program.name} did not end within {within:g} s and was killed")
            self._signal(signal.SIGKILL)
            await self._gone()
        await end(self._listen)

    async def _launch(self) -> None:
        self.address = ""
        self._process = await asyncio.create_subprocess_exec(
            *self.program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self.program.environment},
            # Its own session: Ctrl-C reaches the parent alone, which ends its children in order.
            start_new_session=True,
            preexec_fn=dies_with_parent(),
        )
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            if ready := _READY.search(text):
                self.address = ready[1]
                break
            if http := _HTTP.search(text):
                self.http_address = http[1]
                continue
            self._report(f"{self.program.name}: {text}")
        await end(self._listen)
        # A pipe that nobody reads would block it one day.
        self._listen = asyncio.create_task(self._pass_on(self._process.stdout))

    async def _pass_on(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            self._report(f"{self.program.name}: {line.decode(errors='replace').rstrip()}")

    async def _restart_forever(self) -> None:
        pause = FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        started = clock()
        while True:
            ending = await self._ending()
            pause = FIRST_PAUSE if clock() - started > HEALTHY_SECONDS else pause
            self._report(f"{self.program.name} ended unasked ({ending}); it starts again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
            started = clock()
            try:
                await self._launch()
            except OSError as error:
                # No memory, no process, no program for a moment: giving up now would leave the role down for good.
                self._report(f"{self.program.name} cannot be started: {error}")
                continue
            if self.address:
                self._report(f"{self.program.name} is back on {self.address} (pid {self.pid})")

    async def _ending(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


class Supervisor:
    """The children of this process; leaving the block ends them all, the last one started first.

    Args:
        report: told in a line what happens.
        drain_seconds: how long a child may take to end.
    """

    def __init__(self, *, report: Callable[[str], None], drain_seconds: float) -> None:
        self._report = report
        self._drain_seconds = drain_seconds
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in reversed(self._children.copy()):
            await self.stop([child])

    async def start(self, program: Program) -> Child:
        """Start one program and wait until it serves. Raises EngineFailed."""
        child = Child(program, self._report)
        self._children.append(child)
        await child.start()
        return child

    async def start_together(self, programs: Iterable[Program]) -> list[Child]:
        """Start several at once. Raises EngineFailed for the first that fails."""
        tasks = [asyncio.create_task(self.start(program)) for program in programs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            await end(*tasks)

    async def stop(self, children: Iterable[Child]) -> None:
        """End these, all at once, and wait until they are gone."""
        ending = list(children)
        await asyncio.gather(*(child.stop(within=self._drain_seconds) for child in ending))
        self._children = [child for child in self._children if child not in ending]
