"""docker-compose.yml and its files name only what exists: commands, options, ports, variables, hosts."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from multishadow_client.cli import manifest
from multishadow_client.cli.program import program as shadowctl
from multishadow_server.adapters.embedded import MAX_PAYLOAD_BYTES, nats_server_program
from multishadow_server.demo import catalogue
from multishadow_server.entrypoints.cli import cli as multishadow
from multishadow_server.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
VARIABLES = {f"MULTISHADOW_{name.upper()}" for name in Settings.model_fields}


def services() -> Mapping[str, Mapping[str, Any]]:
    parsed: Mapping[str, Mapping[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return parsed


def ours() -> Mapping[str, Mapping[str, Any]]:
    return {name: service for name, service in services().items() if service["image"] == "multishadow"}


def options_of(program: typer.Typer, arguments: list[str]) -> Mapping[str, Any]:
    """What the program understands by these arguments; it exits with an error where they are wrong."""
    command: Any = typer.main.get_command(program)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    parsed: Mapping[str, Any] = command.make_context(command.name, list(arguments)).params
    return parsed


def listening_ports(service: Mapping[str, Any]) -> list[str]:
    """The ports that a service of ours serves on, by its options or its environment; its gRPC's is the first."""
    listen = options_of(multishadow, service["command"]).get("listen")
    # Metrics are asked for from inside the network.
    variables = {k: v for k, v in service.get("environment", {}).items() if k != "MULTISHADOW_METRICS_LISTEN"}
    named = [value for name, value in variables.items() if name.endswith("_LISTEN")]
    return [str(address).rpartition(":")[2] for address in ([listen] if listen else named)]


def test_it_runs_every_role_the_engines_and_every_version_of_the_demo() -> None:
    commands = [tuple(service["command"]) for service in ours().values()]
    assert {command[0] for command in commands} == {"router", "worker", "control", "migrate", "version-server"}
    served = {(command[1], command[2]) for command in commands if command[0] == "version-server"}
    assert served == {(model.name, version) for model in catalogue.models() for version in model.versions}
    assert services()["postgres"]["image"] == "postgres:18"
    assert services()["nats"]["image"].startswith("nats:2")


def test_every_command_is_one_that_the_program_understands() -> None:
    for service in ours().values():
        options_of(multishadow, service["command"])


@pytest.mark.parametrize("name", ["router", "worker", "control", "migrate"])
def test_every_variable_is_a_setting_with_a_value_that_it_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = services()[name]["environment"]
    assert set(environment) <= VARIABLES
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    for variable, value in environment.items():
        assert str(getattr(settings, variable.removeprefix("MULTISHADOW_").lower())) == value


def test_every_published_port_and_health_check_is_where_the_service_listens() -> None:
    for name, service in ours().items():
        ports = listening_ports(service)
        published = [each.rpartition(":")[2] for each in service.get("ports", ())]
        assert published in ([], ports), name
        if "healthcheck" in service:
            kind, program, *arguments = service["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "multishadow")
            assert options_of(multishadow, arguments)["address"] == f"127.0.0.1:{ports[0]}", name


def test_whoever_listens_inside_a_container_listens_to_the_network() -> None:
    for name, service in ours().items():
        listen = options_of(multishadow, service["command"]).get("listen")
        for address in filter(None, [listen, *(v for k, v in service.get("environment", {}).items() if "LISTEN" in k)]):
            assert address.startswith("0.0.0.0:"), name


def test_roles_find_the_database_and_the_log_where_compose_runs_them() -> None:
    database = urlsplit(services()["router"]["environment"]["MULTISHADOW_DATABASE_URL"])
    postgres = services()[str(database.hostname)]["environment"]
    assert (database.username, database.password, database.path) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_PASSWORD"],
        f"/{postgres['POSTGRES_DB']}",
    )
    log = urlsplit(services()["router"]["environment"]["MULTISHADOW_NATS_URL"])
    assert log.hostname in services()
    assert f"port: {log.port}" in (ROOT / "deploy" / "nats.conf").read_text()


def test_everything_that_a_service_waits_for_exists_and_can_be_waited_for() -> None:
    for service in services().values():
        for awaited, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services()[awaited]
            else:
                assert services()[awaited]["restart"] == "no"


def test_postgres_is_healthy_once_it_serves_the_network() -> None:
    # While its image sets the database up it answers on its socket alone; whoever began then would be cut off.
    test = services()["postgres"]["healthcheck"]["test"]
    assert test[:4] == ["CMD", "pg_isready", "--host", "127.0.0.1"]


def test_nats_server_takes_its_configuration(tmp_path: Path) -> None:
    arguments: list[str] = services()["nats"]["command"]
    inside = arguments[arguments.index("--config") + 1]
    mounted = next(volume for volume in services()["nats"]["volumes"] if f":{inside}" in volume)
    text = (ROOT / mounted.partition(":")[0]).read_text()
    assert f"max_payload: {MAX_PAYLOAD_BYTES}" in text
    local = tmp_path / "nats.conf"
    local.write_text(text.replace('"/data"', f'"{tmp_path}"'))
    command = [nats_server_program(), *(str(local) if part == inside else part for part in arguments), "-t"]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr


def test_the_model_file_names_version_servers_of_compose_at_their_ports() -> None:
    documents = manifest.read(ROOT / "deploy" / "models.yaml")
    assert [document.request.model for document in documents] == list(catalogue.NAMES)
    for document in documents:
        for version in document.request.versions:
            host, _, port = version.address.partition(":")
            assert services()[host]["command"][1:3] == [document.request.model, version.name]
            assert [port] == listening_ports(services()[host])


def commands_shown() -> Iterator[tuple[str, list[str]]]:
    """The commands in the file's opening comment."""
    for line in COMPOSE.read_text().splitlines():
        if match := re.match(r"#   (multishadow|shadowctl) (.+)", line):
            yield match[1], shlex.split(match[2])


def test_the_commands_that_its_comment_shows_are_understood() -> None:
    shown = list(commands_shown())
    assert len(shown) == 4
    for program, arguments in shown:
        options_of({"multishadow": multishadow, "shadowctl": shadowctl}[program], arguments)


def test_the_image_is_built_from_files_that_exist() -> None:
    build = services()["router"]["build"]
    dockerfile = ROOT / build["dockerfile"]
    for line in dockerfile.read_text().splitlines():
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    assert 'ENTRYPOINT ["multishadow"]' in dockerfile.read_text()


def test_what_is_mounted_is_there() -> None:
    for service in services().values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() or not source.startswith("."), source
