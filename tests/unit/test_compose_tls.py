"""deploy/tls.yml fits docker-compose.yml, and names only what exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from multishadow_client.cli.program import program as shadowctl
from multishadow_server.entrypoints.cli import cli as multishadow
from multishadow_server.settings import Settings

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "deploy" / "tls.yml"


def services(path: Path) -> Mapping[str, Mapping[str, Any]]:
    parsed: Mapping[str, Mapping[str, Any]] = yaml.safe_load(path.read_text())["services"]
    return parsed


def options_of(program: typer.Typer, arguments: list[str]) -> Mapping[str, Any]:
    command: Any = typer.main.get_command(program)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    parsed: Mapping[str, Any] = command.make_context(command.name, list(arguments)).params
    return parsed


def test_it_changes_services_that_there_are_and_every_port_of_ours_that_is_published() -> None:
    base, overlay = services(ROOT / "docker-compose.yml"), services(OVERLAY)
    published = {name for name, service in base.items() if service["image"] == "multishadow" and "ports" in service}
    assert set(overlay) == published


@pytest.mark.parametrize("name", ["router", "control"])
def test_its_variables_are_settings_and_its_files_are_mounted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = services(OVERLAY)[name]
    (mount,) = service["volumes"]
    inside = mount.split(":")[1]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, value)
        assert variable.removeprefix("MULTISHADOW_").lower() in Settings.model_fields
    settings = Settings()
    assert settings.auth == ("tokens" if name == "control" else "off")
    for path in (settings.tls_cert, settings.tls_key):
        assert path is not None
        assert path.parent == Path(inside)


def test_its_health_checks_ask_over_tls_where_the_service_listens() -> None:
    for name, service in services(OVERLAY).items():
        before = services(ROOT / "docker-compose.yml")[name]["healthcheck"]["test"]
        kind, program, *arguments = service["healthcheck"]["test"]
        assert [kind, program, *arguments[:2]] == before
        options = options_of(multishadow, arguments)
        assert (str(options["ca"]), options["server_name"]) == ("/certificates/ca.crt", "localhost")


def test_the_commands_that_its_comment_shows_are_understood() -> None:
    text = OVERLAY.read_text()
    shown = [shlex.split(line) for line in re.findall(r"#   shadowctl (.+)", text)]
    assert len(shown) == 2
    for arguments in shown:
        options_of(shadowctl, arguments)
    (token,) = re.findall(r"run --rm migrate (token .+?) >", text)
    assert options_of(multishadow, shlex.split(token))["name"] == "ann"
    assert "MULTISHADOW_DATABASE_URL" in services(ROOT / "docker-compose.yml")["migrate"]["environment"]
