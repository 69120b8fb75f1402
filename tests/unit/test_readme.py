"""What README.md says about the program is true of the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from multishadow_client.cli.program import program as shadowctl
from multishadow_server.entrypoints.cli import cli as multishadow
from multishadow_server.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = {"multishadow": multishadow, "shadowctl": shadowctl}


def settings_table() -> str:
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "host name and process id" if name == "instance" else shown(field.get_default())
        rows.append(f"| `MULTISHADOW_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def shown(default: object) -> str:
    return "" if default is None else f"`{default}`"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `multishadow` and `shadowctl` command in a code block, as (program, arguments)."""
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL):
        for name, arguments in re.findall(r"\.venv/bin/(multishadow|shadowctl) ?(.*)", block):
            yield name, shlex.split(arguments)


def parse(name: str, arguments: list[str]) -> None:
    command: Any = typer.main.get_command(PROGRAMS[name])
    while hasattr(command, "commands"):
        subcommand, *arguments = arguments
        command = command.commands[subcommand]
    command.make_context(command.name, list(arguments))


def test_the_table_of_settings_is_the_programs() -> None:
    table = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README, flags=re.DOTALL)
    assert table is not None
    assert table[1] == settings_table(), "paste the right-hand side into README.md"


def test_every_command_shown_is_understood() -> None:
    shown_commands = list(commands())
    assert len(shown_commands) >= 8
    for name, arguments in shown_commands:
        parse(name, arguments)


def test_every_command_of_the_program_is_in_the_table() -> None:
    command: Any = typer.main.get_command(multishadow)
    for name in command.commands:
        assert f"`{name}`" in README or f"`multishadow {name}" in README, name
