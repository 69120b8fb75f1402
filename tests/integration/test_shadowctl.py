"""`shadowctl` against the real control on a real PostgreSQL, and, where it lasts, as a process of its own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import control_fixtures as reports
import version_servers
from multishadow.v1.control_pb2 import CompareRequest
from multishadow_client import cli
from multishadow_server.app import control as control_role
from multishadow_server.settings import Settings
from waiting import PATIENCE, until

SHADOWCTL = str(Path(sys.executable).with_name("shadowctl"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What was written as JSON."""
        return json.loads(self.out)


Shadowctl = Callable[..., Awaitable[Result]]


def run(arguments: Sequence[str]) -> Result:
    """Run one command here: starting an interpreter for each would take most of these tests' time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return Result(code=ended.value.code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture
async def shadowctl(
    database_url: str, nats_url: str, log_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shadowctl]:
    settings = Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        control_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        drain_seconds=1,
    )
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    control = asyncio.create_task(control_role.run(settings, stop, ready=address.set_result))
    await asyncio.wait([control, address], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
    if control.done():
        await control
    for name, value in environment(await address).items():
        monkeypatch.setenv(name, value)
    yield lambda *arguments: asyncio.to_thread(run, arguments)
    stop.set()
    await control


def environment(control: str) -> dict[str, str]:
    return {"MULTISHADOW_CONTROL": control, "MULTISHADOW_ACTOR": "ann", "COLUMNS": "100"}


async def test_a_model_goes_from_its_file_to_a_promotion_and_back(shadowctl: Shadowctl, tmp_path: Path) -> None:
    async with (
        version_servers.serving(version_servers.answering("live")) as base,
        version_servers.serving(version_servers.answering("better")) as better,
    ):
        file = tmp_path / "model.yaml"
        file.write_text(
            f"model: spam\ncomparator: {{threshold: 0.9}}\nversions:\n"
            f"  - {{name: base, address: '{base.address}'}}\n  - {{name: A, address: '{better.address}'}}\n"
        )
        assert (await shadowctl("compare")).code == 2, "there is no model yet"

        applied = await shadowctl("apply", "-f", str(file), "-o", "json")
        assert applied.code == 0, applied.err
        assert applied.document["model"]["versions"] == ["base", "A"]
        assert len(applied.document["changes"]) > 0
        again = await shadowctl("apply", "-f", str(file))
        assert again.out == "spam: everything was so already\n"

        assert (await shadowctl("get", "models", "-o", "json")).document["models"][0]["live_version"] == "base"
        versions = (await shadowctl("get", "versions", "-o", "json")).document["versions"]
        assert [(version["name"], version["ordinal"]) for version in versions] == [("base", 0), ("A", 1)]

        started = await shadowctl("start", "A", "--percent", "25", "--for", "12h")
        assert started.code == 0, started.err
        flags = {
            flag["key"]: flag["claim"] for flag in (await shadowctl("get", "flags", "-o", "json")).document["flags"]
        }
        assert "25" in flags["spam.A"]
        second = await shadowctl("start", "A")
        assert second.code == 1, "one experiment at a time"
        assert second.err.startswith("error: ")

        compared = await shadowctl("compare", "A")
        assert compared.code == 3
        assert "unknown: nothing compared yet" in compared.out
        report = (await shadowctl("compare", "-o", "json")).document
        assert (report["state"], report["candidates"][0]["n"]) == ("no_data", 0)

        held = await shadowctl("gates", "A")
        assert held.code == 3
        assert "A: NO_DATA; nothing of it was compared yet" in " ".join(held.out.split())
        attested = await shadowctl("attest", "A", "cost", "--note", "half of it")
        assert attested.code == 0, attested.err
        (review,) = (await shadowctl("gates", "A", "-o", "json")).document["reviews"]
        (cost,) = (gate for gate in review["gates"] if gate["name"] == "cost")
        assert (cost["state"], cost["attestation"]["by"], cost["attestation"]["text"]) == ("pass", "ann", "half of it")
        waived = await shadowctl("waive", "A", "completeness", "--reason", "a rehearsal")
        assert waived.code == 0, waived.err
        refused = await shadowctl("promote", "A", "--yes")
        assert refused.code == 4
        assert "minimum_duration unknown" in refused.err
        assert "completeness" not in refused.err

        promoted = await shadowctl("promote", "A", "--yes", "--force", "--reason", "a rehearsal")
        assert promoted.out.startswith("spam: live is A (was base), revision ")
        status = await shadowctl("status")
        assert "spam: live is A" in status.out

        rolled_back = await shadowctl("rollback")
        assert rolled_back.out.startswith("spam: live is base; the promotion of A is taken back, revision ")
        assert (await shadowctl("rollback")).code == 1, "there is nothing left to roll back"

        stopped = await shadowctl("stop", "--reason", "enough")
        assert stopped.code == 0, stopped.err
        (experiment,) = (await shadowctl("get", "experiments", "-o", "json")).document["experiments"]
        assert (experiment["state"], experiment["stop_reason"], experiment["started_by"]) == (
            "stopped",
            "enough",
            "ann",
        )


async def test_a_version_that_cannot_be_reached_is_not_promoted(shadowctl: Shadowctl, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text("model: spam\nversions: [{name: base, address: '127.0.0.1:1'}, {name: A, address: '127.0.0.1:1'}]")
    assert (await shadowctl("apply", "-f", str(file))).code == 0
    refused = await shadowctl("promote", "A", "--yes")
    assert (refused.code, refused.out) == (4, "")
    assert "A" in refused.err
    assert (await shadowctl("promote", "A", "--yes", "--force")).code == 2, "no gates were passed, so say why"
    assert (await shadowctl("promote", "A", "--yes", "--force", "--reason", "only routers reach it")).code == 0


async def test_names_that_do_not_exist_are_told_beside_those_that_do(shadowctl: Shadowctl, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text("model: spam\nversions: [{name: base, address: '127.0.0.1:1'}, {name: A, address: '127.0.0.1:1'}]")
    await shadowctl("apply", "-f", str(file))
    for arguments in (["promote", "Z", "--yes"], ["start", "Z"], ["flag", "set", "spam.Z", "shadow"]):
        result = await shadowctl(*arguments)
        assert (result.code, result.out) == (1, ""), arguments
        assert "Z" in result.err
        assert "A" in result.err.replace("error: ", "")
    bad = await shadowctl("start", "A", "--percent", "0")
    assert bad.code == 2
    assert "percent" in bad.err


def read_all(terminal: int, into: bytearray) -> None:
    """Read what a terminal shows until its program is gone; Linux tells that end as an error."""
    while True:
        try:
            data = os.read(terminal, 65_536)
        except OSError:
            return
        if not data:
            return
        into += data


@asynccontextmanager
async def a_process(control: str, *arguments: str, **more: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """One command as a process, which ends with the block: one left behind would hold this process's loop open."""
    env = os.environ | environment(control) | more.pop("env", {})
    process = await asyncio.create_subprocess_exec(SHADOWCTL, *arguments, env=env, **more)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_watching_on_a_terminal_ends_cleanly_and_leaves_the_last_report() -> None:
    with reports.serving(reports.CannedControl()) as canned:
        canned.answers |= {"ListModels": reports.models(spam=["base", "A"]), "Compare": reports.undecided()}
        ours, theirs = pty.openpty()
        shown = bytearray()
        terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": {"TERM": "xterm"}}
        async with a_process(canned.address, "compare", "--watch", "--every", "1s", **terminal) as process:
            os.close(theirs)
            reading = asyncio.create_task(asyncio.to_thread(read_all, ours, shown))
            await until(lambda: len(canned.asked(CompareRequest)) >= 3)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 3
            await asyncio.wait_for(reading, PATIENCE)
        os.close(ours)
    text = shown.decode()
    screen, after = text.rsplit("\x1b[?1049l", 1)
    assert screen.count("\x1b[?1049h") == 1
    assert "read at 12:00:00 UTC · Ctrl-C ends" in screen
    assert "Wait: A and B cannot be told apart" in screen, "on top, where a low terminal shows it"
    assert "Wait: A and B cannot be told apart" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r\n", "", after)
    assert "Ctrl-C ends" not in after
    assert "Traceback" not in text
    assert text.count("\x1b[?25h") >= text.count("\x1b[?25l"), "the cursor is there again"


@asynccontextmanager
async def watching_in_a_pipe(control: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any, Any]]:
    """The process, and what it writes to its two outputs."""
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, "limit": 1 << 20}
    async with a_process(control, "compare", "--watch", "--every", "1s", "-o", "json", **pipes) as process:
        yield process, process.stdout, process.stderr


async def test_watching_in_a_pipe_writes_a_line_of_json_for_each_reading() -> None:
    with reports.serving(reports.CannedControl()) as canned:
        canned.answers |= {"ListModels": reports.models(spam=["base", "A"]), "Compare": reports.decided()}
        async with watching_in_a_pipe(canned.address) as (process, out, err):
            lines = [json.loads(await asyncio.wait_for(out.readline(), PATIENCE)) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
            assert await err.read() == b""
    assert [line["winner"] for line in lines] == ["A", "A"]


async def test_watching_goes_on_while_control_is_away() -> None:
    with reports.serving(reports.CannedControl()) as canned:
        canned.answers |= {"ListModels": reports.models(spam=["base", "A"]), "Compare": reports.decided()}
        async with watching_in_a_pipe(canned.address) as (process, out, err):
            await asyncio.wait_for(out.readline(), PATIENCE)
            canned.answers["Compare"] = (grpc.StatusCode.UNAVAILABLE, "the database is away")
            assert b"the database is away" in await asyncio.wait_for(err.readline(), PATIENCE)
            canned.answers["Compare"] = reports.decided()
            assert await asyncio.wait_for(out.readline(), PATIENCE)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
