"""README.md's quick start, followed to the letter; only its ports are replaced by free ones."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from running import Running, running
from waiting import PATIENCE, until_sync

ROOT = Path(__file__).parents[2]
PORTS = ("50051", "50052", "9000", "9001", "9002")


def free_ports() -> Mapping[str, str]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return {port: str(taken.getsockname()[1]) for port, taken in zip(PORTS, sockets, strict=True)}


@pytest.fixture
def readme() -> str:
    text = (ROOT / "README.md").read_text().partition("## Quick start")[2].partition("\n## ")[0]
    for port, free in free_ports().items():
        text = re.sub(rf"\b{port}\b", free, text)
    return text


@pytest.fixture
def folder(readme: str, tmp_path: Path) -> Path:
    for name, content in re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", readme, flags=re.DOTALL):
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def serving(folder: Path) -> Iterator[Running]:
    router, control = re.findall(r"Client\(\"(.+?)\"\)", (folder / "ask.py").read_text())[0], free_ports()["50052"]
    listen = ("--router-listen", router, "--control-listen", f"127.0.0.1:{control}", "--http-listen", "127.0.0.1:0")
    with running("serve", *listen, "--data-dir", str(folder / "data")) as command:
        command.line_with("Next:")
        yield command


def shell_lines(readme: str) -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", readme, flags=re.DOTALL):
        yield from (line for line in block.strip().splitlines() if "multishadow serve" not in line)


@pytest.mark.timeout(240)
def test_the_quick_start_works_as_it_stands(readme: str, folder: Path, serving: Running) -> None:
    addresses = {
        role: next(line for line in serving.lines if line.startswith(role)).split()[1] for role in ("router", "control")
    }
    environment = {
        **os.environ,
        "MULTISHADOW_ROUTER": addresses["router"],
        "MULTISHADOW_CONTROL": addresses["control"],
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    outputs: dict[str, str] = {}

    def run(line: str) -> int:
        command = line.replace(".venv/bin/", "").split(" #")[0]
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        outputs[line] = done.stdout + done.stderr
        return done.returncode

    def decided(compare: str) -> bool:
        return run(compare) == 0

    with ExitStack() as versions:
        for line in shell_lines(readme):
            if line.endswith("&"):
                arguments = line.rstrip("& ").split()[1:]
                version = subprocess.Popen([sys.executable, *arguments], cwd=folder)
                versions.callback(version.wait)
                versions.callback(version.terminate)
                until_sync(partial(accepts, int(arguments[1])))
            elif "shadowctl compare" in line:
                until_sync(partial(decided, line))
            elif "shadowctl gates" in line:
                assert run(line) == 3, outputs[line]
            else:
                assert run(line) == 0, outputs[line]
    said = {line.partition("bin/")[2]: text for line, text in outputs.items()}
    assert "by first" in said["python ask.py"]
    assert "A diverges least from first" in " ".join(said["shadowctl compare"].split())
    # Three healthy versions: none of their copies is lost, however busy the machine.
    assert said["shadowctl compare"].count("100.00 %") == 2
    assert "A" in said["shadowctl predict rules --text 'a string is required here'"]
    assert "first" in said["shadowctl rollback"]


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
