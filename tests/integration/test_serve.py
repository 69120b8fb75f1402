"""`multishadow serve` as a user runs it, with its embedded engines."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from multishadow_server.adapters.deployment import environment_of, folder_lock, refuse_taken
from multishadow_server.errors import FailedPrecondition
from multishadow_server.settings import Settings
from running import Running, running
from waiting import PATIENCE, until_sync

FREE = tuple(part for role in ("router", "control", "http") for part in (f"--{role}-listen", "127.0.0.1:0"))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that several tests share: starting it costs more than what they do to it."""
    with serve(tmp_path_factory.mktemp("serving")) as command:
        yield command


@contextmanager
def serve(folder: Path) -> Iterator[Running]:
    with running("serve", *FREE, "--data-dir", str(folder)) as command:
        command.line_with("Next:")
        yield command


def pids(command: Running) -> dict[str, int]:
    """Process id by role, as `serve` announced them."""
    line = next(line for line in command.lines if line.startswith("processes"))
    return {name: int(pid) for name, pid in re.findall(r"(\S+) (\d+)", line.removeprefix("processes"))}


def folder_of(command: Running) -> str:
    return next(line for line in command.lines if line.startswith("database")).split("embedded in ")[1].strip()


def names(command: Running) -> set[str]:
    found = set()
    for process in command.family():
        # It may have ended since.
        with suppress(psutil.NoSuchProcess):
            found.add(process.name())
    return found


def _apply_as_it_says(output: str, folder: Path) -> None:
    (folder / "model.yaml").write_text("model: spam\nversions: [{name: base, address: '127.0.0.1:1'}]\n")
    typed = re.findall(r"Next: shadowctl (.+?)\. Ctrl-C", output)[0]
    shadowctl = Path(sys.executable).with_name("shadowctl")
    subprocess.run([shadowctl, *typed.split()], cwd=folder, check=True, timeout=PATIENCE)


def test_it_says_where_everything_is_and_stops_it_all_when_asked(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as command:
        assert set(pids(command)) == {"router-1", "router-2", "worker-1", "control"}
        assert {"postgres", "nats-server"} <= names(command)
        page = next(line for line in command.lines if line.startswith("page")).split()[1]
        with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
            assert b"No model is registered yet" in answer.read()
        for served in ("router", "control", "http"):
            assert re.search(rf"{served} +127\.0\.0\.1:[1-9]\d+", command.output)
        assert f"embedded in {tmp_path / 'data'}" in command.output
        _apply_as_it_says(command.output, tmp_path)
        command.process.send_signal(signal.SIGTERM)
        assert command.ended() == 0
        assert "did not end" not in command.output
        assert command.left_nothing_running()


def test_a_killed_router_comes_back_at_the_same_address(serving: Running) -> None:
    killed = pids(serving)["router-1"]
    psutil.Process(killed).kill()
    assert "router-1 ended unasked (killed by SIGKILL)" in serving.line_with("ended unasked")
    back = serving.line_with("router-1 is back on")
    address = re.search(r"router +(\S+)", serving.output)
    assert address is not None
    assert address[1] in back


@pytest.mark.parametrize("engine", ["postgres", "nats-server"])
def test_a_killed_engine_comes_back(serving: Running, engine: str) -> None:
    # The oldest: PostgreSQL's others are children of it.
    oldest = min((p for p in serving.family() if p.name() == engine), key=lambda p: p.create_time())
    oldest.kill()
    serving.line_with("ended unasked; it starts again")
    until_sync(lambda: any(p.name() == engine and p.pid != oldest.pid for p in serving.family()))


def test_nothing_outlives_a_serve_that_is_killed_and_its_folder_can_be_served_again(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as killed:
        killed.process.kill()
        assert killed.left_nothing_running()
    with serve(tmp_path / "data") as again:
        again.process.send_signal(signal.SIGINT)
        assert again.ended() == 0
        assert again.left_nothing_running()


def test_a_second_serve_in_the_same_folder_is_refused(serving: Running) -> None:
    with running("serve", *FREE, "--data-dir", folder_of(serving)) as second:
        assert second.ended() == 1
        assert f"is in use by process {serving.process.pid}: stop it" in second.output
        assert len(second.output.splitlines()) == 1


def test_an_address_in_use_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with running("serve", "--router-listen", address, "--data-dir", str(tmp_path / "data")) as command:
            assert command.ended() == 1
            assert f"cannot listen on {address}: Address already in use" in command.output
            assert "--router-listen" in command.output
            assert len(command.output.splitlines()) == 1
            assert command.left_nothing_running()


def test_a_database_that_cannot_be_reached_is_named_in_one_line(tmp_path: Path) -> None:
    given = ("--database-url", "postgresql://nobody:secret@127.0.0.1:1/none", "--nats-url", "nats://127.0.0.1:1")
    with running("serve", *FREE, *given, "--data-dir", str(tmp_path / "data")) as command:
        assert command.ended() == 1
        assert "127.0.0.1:1" in command.output
        assert "secret" not in command.output
        assert len(command.output.splitlines()) == 1


def test_stopping_it_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with running("serve", *FREE, "--data-dir", str(tmp_path / "data")) as command:
        until_sync(lambda: "postgres" in names(command))
        command.process.send_signal(signal.SIGTERM)
        command.ended()
        assert command.left_nothing_running()


@pytest.mark.parametrize("role", ["router", "worker", "control", "migrate"])
def test_a_role_without_a_database_says_how_to_get_one(role: str) -> None:
    with running(role) as command:
        assert command.ended() == 2
        assert "MULTISHADOW_DATABASE_URL" in command.output
        assert "multishadow serve" in command.output


def test_a_setting_that_is_out_of_range_is_named() -> None:
    with running("worker", environment={"MULTISHADOW_LOG_PARTITIONS": "999"}) as command:
        assert command.ended() == 2
        assert command.output == "MULTISHADOW_LOG_PARTITIONS='999': Input should be less than or equal to 256\n"


def test_children_get_what_was_chosen_and_their_own_defaults_for_the_rest(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, drain_seconds=3.5)
    chosen = settings.model_copy(update={"database_url": "postgresql:///one"})
    assert environment_of(chosen) == {
        "MULTISHADOW_DATA_DIR": str(tmp_path),
        "MULTISHADOW_DATABASE_URL": "postgresql:///one",
        "MULTISHADOW_DRAIN_SECONDS": "3.5",
    }


def test_a_free_address_is_not_refused() -> None:
    for address in ("127.0.0.1:0", "[::1]:0", "unix:/run/router.sock"):
        refuse_taken(address, option="--listen")


def test_a_folder_is_held_by_one_at_a_time_and_free_again_after(tmp_path: Path) -> None:
    def hold() -> None:
        with folder_lock(tmp_path):
            pass

    with folder_lock(tmp_path), pytest.raises(FailedPrecondition, match=f"process {os.getpid()}"):
        hold()
    hold()
