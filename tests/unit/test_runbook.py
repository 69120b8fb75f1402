"""What the runbook tells people to type is what the program understands, and its files can be read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from multishadow_client.cli.program import command as shadowctl
from multishadow_client.cli.rollout_commands import exit_code_of

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOK = (DOCS / "runbook.md").read_text()
SHELL_WORDS = {"||", "&&", ">", "|", ";"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def commands(page: str) -> Iterator[list[str]]:
    """Every `shadowctl` command in a code block or in backquotes, as its arguments, without what follows in a shell."""
    shown = [line for language in ("sh", "yaml") for block in blocks(page, language) for line in block.splitlines()]
    shown += [f"shadowctl {quoted}" for quoted in re.findall(r"`shadowctl ([^`]*)`", page)]
    for line in shown:
        found = re.search(r"(?:^|run: |echo .*?: )\s*(?:- run: )?shadowctl (.*)", line)
        if found is None or "echo" in line:
            continue
        words = shlex.split(found[1], comments=True)
        ends = [place for place, word in enumerate(words) if word in SHELL_WORDS]
        yield words[: min(ends, default=len(words))]


def parse(arguments: list[str]) -> None:
    command = shadowctl()
    while hasattr(command, "commands") and arguments:
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(command.name, list(arguments))


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("runbook.md", 20),
        ("promotion.md", 10),
        ("flags.md", 13),
        ("labels.md", 4),
        ("security.md", 14),
        ("watching.md", 8),
        ("replay.md", 3),
        ("webhooks.md", 4),
        ("export.md", 6),
    ],
)
def test_every_command_shown_is_understood(page: str, least: int) -> None:
    found = list(commands((DOCS / page).read_text()))
    assert len(found) >= least, found
    for arguments in found:
        parse(arguments)


def test_the_workflows_are_yaml_that_runs_on_dispatch() -> None:
    workflows = [yaml.safe_load(block) for block in blocks(RUNBOOK, "yaml")]
    assert [workflow["name"] for workflow in workflows] == ["release", "rollback"]
    for workflow in workflows:
        # YAML 1.1 reads the key `on` as true.
        assert workflow[True]["workflow_dispatch"]["inputs"]["model"]["required"]
        assert all(step["run"] for job in workflow["jobs"].values() for step in job["steps"])


def test_the_exit_codes_of_a_rollout_are_those_that_the_pages_tell() -> None:
    from multishadow.v1.rollouts_pb2 import Rollout  # noqa: PLC0415  beside its only use

    codes = {state: int(exit_code_of(Rollout(state=state))) for state in ("completed", "paused", "running", "aborted")}
    assert codes == {"completed": 0, "paused": 3, "running": 3, "aborted": 1}
    said = (DOCS / "promotion.md").read_text()
    assert "ends with 0 when it is completed, 3 while it goes on or is paused, 1 when it was aborted" in said


def helped(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every command that is shown, and the examples in its help."""
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            if not each.hidden:
                yield from helped(each, (*path, name))
    else:
        yield " ".join(path), command.epilog or ""


@pytest.mark.parametrize(("name", "examples"), list(helped(shadowctl())))
def test_every_command_teaches_by_examples_that_are_understood(name: str, examples: str) -> None:
    shown = re.findall(r"shadowctl (.*)", examples)
    assert shown, f"{name}: no example in its help"
    for line in shown:
        words = shlex.split(line)
        parse(words[: min((place for place, word in enumerate(words) if word in SHELL_WORDS), default=len(words))])
