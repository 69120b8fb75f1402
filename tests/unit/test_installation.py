"""The program as it is installed: with the server's extra, or without."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

from waiting import PATIENCE


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_without_the_servers_extra_the_command_says_how_to_get_it() -> None:
    ended = run(
        "import sys; sys.modules['pydantic_settings'] = None; sys.argv = ['multishadow', '--help']\n"
        "import multishadow_server.__main__ as program; program.main()"
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "multishadow: the server needs pydantic_settings, which comes with its extra: "
        "pip install 'multishadow[server]'\n"
    )


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra() -> None:
    ended = run(
        "import sys; sys.modules['multishadow_server.settings'] = None\n"
        "import multishadow_server.__main__ as program; program.main()"
    )
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "pip install" not in ended.stderr


@pytest.mark.parametrize("command", ["multishadow", "shadowctl"])
def test_the_installed_commands_are_there(command: str) -> None:
    (found,) = entry_points(group="console_scripts", name=command)
    assert callable(found.load())


@pytest.mark.parametrize(
    ("name", "module"), [("multishadow", "multishadow_server.__main__"), ("shadowctl", "multishadow_client.cli")]
)
def test_the_commands_say_which_version_they_are(name: str, module: str) -> None:
    ended = run(f"import sys; sys.argv[1:] = ['--version']\nfrom {module} import main; main()")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{name} {version('multishadow')}\n", "")


@pytest.mark.parametrize("role", ["router", "worker"])
def test_a_role_loads_nothing_that_only_reports_and_http_are_made_with(role: str) -> None:
    ended = run(f"import sys, multishadow_server.app.{role}\nprint(*sys.modules)")
    unwanted = {"scipy.stats", "starlette", "uvicorn", "prometheus_client", "opentelemetry"}
    assert not unwanted & set(ended.stdout.split()), ended.stderr
