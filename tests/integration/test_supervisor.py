"""Children are real processes here: small Python programs that behave as roles do, well or badly."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from multishadow_server.adapters.processes import Child, Program, Supervisor
from multishadow_server.errors import EngineFailed
from multishadow_server.service.ending import unless_set
from waiting import until, until_sync

SERVES = "print('child ready on here:1', flush=True); import signal; signal.pause()"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVES


def program(name: str, script: str, **environment: str) -> Program:
    return Program(name=name, command=(sys.executable, "-c", script), environment=environment)


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def supervisor(reports: list[str]) -> Supervisor:
    return Supervisor(report=reports.append, drain_seconds=10.0)


def lives(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def python_children() -> list[psutil.Process]:
    """Children that run a program of these tests; the engines that all tests share are children, too."""
    return [child for child in psutil.Process().children() if sys.executable in child.cmdline()]


async def test_a_child_is_started_when_it_says_where_it_serves(supervisor: Supervisor) -> None:
    async with supervisor:
        child = await supervisor.start(program("child", SERVES))
        assert child.address == "here:1"
        pid = child.pid
        assert lives(pid)
    assert not lives(pid)


async def test_what_a_child_says_besides_is_reported_with_its_name(supervisor: Supervisor, reports: list[str]) -> None:
    async with supervisor:
        await supervisor.start(program("child", "print('warming up', flush=True); " + SERVES))
    assert reports == ["child: warming up"]


async def test_a_child_that_ends_before_it_serves_fails_the_start(supervisor: Supervisor) -> None:
    async with supervisor:
        with pytest.raises(EngineFailed, match=r"broken did not start \(exit code 7\)"):
            await supervisor.start(program("broken", "raise SystemExit(7)"))


async def test_one_child_that_fails_ends_those_that_start_with_it(supervisor: Supervisor) -> None:
    async def start() -> None:
        async with supervisor:
            await supervisor.start_together([program("good", SERVES), program("broken", "raise SystemExit(1)")])

    with pytest.raises(EngineFailed):
        await start()
    assert not python_children()


async def test_a_crashed_child_starts_again_and_is_named(supervisor: Supervisor, reports: list[str]) -> None:
    async with supervisor:
        child = await supervisor.start(program("router-1", SERVES))
        first = child.pid
        assert first is not None
        psutil.Process(first).kill()
        await until(lambda: any("is back" in line for line in reports))
        assert lives(child.pid)
        assert child.pid != first
    assert reports[0] == "router-1 ended unasked (killed by SIGKILL); it starts again in 0.25 s"
    assert reports[1] == f"router-1 is back on here:1 (pid {child_pid(reports[1])})"


def child_pid(line: str) -> int:
    return int(line.rpartition("pid ")[2].rstrip(")"))


async def test_a_child_that_crashes_again_and_again_is_started_ever_more_slowly(
    supervisor: Supervisor, reports: list[str], tmp_path: Path
) -> None:
    fails_after_first_start = (
        f"import pathlib, sys; mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if mark.exists(): sys.exit(3)\n"
        "mark.touch(); print('child ready on here:1', flush=True)"
    )
    async with supervisor:
        await supervisor.start(program("flaky", fails_after_first_start))
        await until(lambda: sum("starts again" in line for line in reports) >= 3)
    pauses = [line.rpartition(" in ")[2] for line in reports if "starts again" in line]
    assert pauses[:3] == ["0.25 s", "0.5 s", "1 s"]


async def test_a_program_that_cannot_be_started_for_a_while_is_tried_again(
    supervisor: Supervisor, reports: list[str], tmp_path: Path
) -> None:
    command, gone = tmp_path / "command", tmp_path / "gone"
    command.write_text(f"#!{sys.executable}\n{SERVES}\n")
    command.chmod(0o755)
    async with supervisor:
        child = await supervisor.start(Program(name="router-1", command=(str(command),)))
        first = child.pid
        assert first is not None
        command.rename(gone)
        psutil.Process(first).kill()
        await until(lambda: any("cannot be started: " in line for line in reports))
        gone.rename(command)
        await until(lambda: any("is back" in line for line in reports))
        assert lives(child.pid)
    assert reports[1] == f"router-1 cannot be started: [Errno 2] No such file or directory: '{command}'"


async def test_a_child_that_is_stopped_is_not_started_again(supervisor: Supervisor, reports: list[str]) -> None:
    async with supervisor:
        child = await supervisor.start(program("child", SERVES))
        await supervisor.stop([child])
        assert child.pid is None
    assert reports == []


async def test_a_child_that_ignores_being_asked_is_killed(reports: list[str]) -> None:
    supervisor = Supervisor(report=reports.append, drain_seconds=0.5)
    async with supervisor:
        child = await supervisor.start(program("stubborn", IGNORES_SIGTERM))
        pid = child.pid
    assert not lives(pid)
    assert reports == ["stubborn did not end within 0.5 s and was killed"]


async def test_a_child_is_stopped_while_it_restarts(supervisor: Supervisor, reports: list[str]) -> None:
    async with supervisor:
        child = await supervisor.start(program("child", SERVES))
        pid = child.pid
        psutil.Process(pid).kill()
        await until(lambda: reports)
        await supervisor.stop([child])
        assert child.pid is None
    assert not python_children()


def test_children_die_with_a_parent_that_is_killed() -> None:
    parent = (
        "import asyncio, sys\n"
        "from multishadow_server.adapters.processes import Program, Supervisor\n"
        "async def main():\n"
        "    async with Supervisor(report=print, drain_seconds=1) as supervisor:\n"
        f"        child = await supervisor.start(Program(name='child', command=(sys.executable, '-c', {SERVES!r})))\n"
        "        print(child.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert lives(child)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until_sync(lambda: not lives(child))


async def test_work_goes_on_until_it_is_done_or_stopped() -> None:
    stop = asyncio.Event()
    assert await unless_set(stop, asyncio.sleep(0))
    endless = asyncio.create_task(unless_set(stop, asyncio.Event().wait()))
    stop.set()
    assert not await endless


def test_a_child_that_never_started_has_no_pid(reports: list[str]) -> None:
    assert Child(program("child", SERVES), reports.append).pid is None
