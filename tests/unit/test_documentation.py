"""The documentation is whole: the reference is what the code says, links lead somewhere, commands exist."""

from __future__ import annotations

import inspect
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from docsite import commands, definitions, hooks, members, metrics, reading, reference, settings
from pydantic.fields import FieldInfo

import documentation
import multishadow_client
import multishadow_client.openfeature
from multishadow_server.core.alarms import AlarmKind
from multishadow_server.core.gates import GateName

PAGES = [pytest.param(path, id=str(path.relative_to(documentation.ROOT))) for path in documentation.pages()]
DOCS = documentation.ROOT / "docs"


def test_the_reference_is_what_the_code_says() -> None:
    wanted, present = reference.pages(), reference.written()
    stale = [
        str(path.relative_to(documentation.ROOT))
        for path in sorted(wanted.keys() | present.keys())
        if wanted.get(path) != present.get(path)
    ]
    assert not stale, f"run `python -m docsite` and commit: {stale}"


def test_nothing_is_undocumented() -> None:
    assert list(reference.omissions()) == []


def test_a_command_or_option_without_help_is_named() -> None:
    program = typer.Typer(callback=lambda: None)

    @program.command("bare")
    def _(*, size: int = 1) -> None: ...

    found = list(commands.omissions({"tool": typer.main.get_command(program)}))
    assert "the command `tool bare` has no help" in found
    assert any("--size" in each and "`tool bare` has no help" in each for each in found)


def test_a_setting_that_says_nothing_and_that_nobody_reads_is_named() -> None:
    bare = {"speed": FieldInfo(annotation=float, default=1.0)}
    assert list(settings.omissions(bare)) == [
        "the setting `speed` has no description",
        "no role reads the setting `speed`",
    ]


def test_a_call_a_message_and_a_field_without_a_comment_are_named(tmp_path: Path) -> None:
    definition = """
    syntax = "proto3";
    package bare;
    // Silent says nothing.
    service Silent {
      rpc Ask(AskRequest) returns (AskResponse);
    }
    message AskRequest {
      string question = 1;
      // Said.
      string answer = 2;
    }
    message AskResponse {}
    message Part {}
    """
    (tmp_path / "bare.proto").write_text(definition)
    # A request and a response of one call are what the call says they are.
    assert list(definitions.omissions(tmp_path)) == [
        "proto/bare.proto: Silent.Ask has no comment",
        "proto/bare.proto: AskRequest.question has no comment",
        "proto/bare.proto: Part has no comment",
    ]


class Counter(NamedTuple):
    name: str
    kind: str = "counter"
    help: str = ""
    labels: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


def test_a_metric_that_says_nothing_is_named_and_one_that_does_is_listed() -> None:
    assert list(metrics.omissions([Counter("requests_total")])) == [
        "the metric `requests_total` has no help",
        "the metric `requests_total` is of no role",
    ]
    told = Counter("requests_total", help="Requests.", labels=("model",), roles=("router", "worker"))
    ((path, page),) = metrics.pages([told])
    assert path == "metrics.md"
    assert "| `requests_total` | counter | `model` | router, worker | Requests. |" in page
    assert list(metrics.pages([])) == []


def test_settings_are_told_of_the_roles_that_read_them() -> None:
    found = reading.readers(settings.ROLES)
    assert found["buffer_captures"] == {"router"}
    assert found["worker_linger"] == {"worker"}
    assert found["ui_hosts"] == {"control"}
    # Workers import what has it, for something else.
    assert found["reflection"] == {"router", "control"}
    assert found["tls_cert"] >= {"router", "worker", "control"}
    assert found["log_format"] >= {"router", "worker", "control"}
    assert found["data_dir"] == {"serve"}


def public_members() -> Iterator[tuple[str, object]]:
    for module in (multishadow_client, multishadow_client.openfeature):
        for name in module.__all__:
            each = getattr(module, name)
            yield f"{module.__name__}.{name}", each
            if inspect.isclass(each):
                yield from (
                    (f"{module.__name__}.{name}.{method}", found)
                    for method, found in vars(each).items()
                    if not method.startswith("_") and (inspect.isroutine(found) or isinstance(found, property))
                )


def test_everything_public_of_the_client_has_a_docstring() -> None:
    found = dict(public_members())
    assert "multishadow_client.Client.predict" in found
    silent = [
        name
        for name, each in found.items()
        if (callable(each) or isinstance(each, property)) and not inspect.getdoc(each)
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_to_a_heading_on_it(page: Path) -> None:
    for target, heading in documentation.links(documentation.without_code(page)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{target} is not there"
        if heading:
            assert heading in documentation.headings(path), f"{target}#{heading}: no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_to_be_typed_is_understood(page: Path) -> None:
    for command in documentation.typed(page.read_text()):
        documentation.understand(command)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_mentioned_exists_with_its_options(page: Path) -> None:
    for command in documentation.named(page.read_text()):
        assert documentation.unknown(command) == [], command


def test_commands_are_found_where_people_find_them() -> None:
    text = (
        "```sh\nA=1 shadowctl get models --output json | jq .  # and shadowctl fly\n```\n"
        "```console\n$ multishadow serve\nshadowctl said\n```\n"
    )
    assert list(documentation.typed(text)) == [
        documentation.Command("shadowctl", ["get", "models", "--output", "json"]),
        documentation.Command("multishadow", ["serve"]),
    ]
    with pytest.raises(KeyError):
        documentation.understand(documentation.Command("shadowctl", ["fly"]))
    assert documentation.unknown(documentation.Command("shadowctl", ["compare", "--faster"])) == ["--faster"]


def test_the_home_page_begins_with_the_commands_of_the_readme() -> None:
    marked = r"<!-- command: (\w+) -->\n```sh\n(.*?)\n```"
    readme, home = (
        re.findall(marked, path.read_text()) for path in (documentation.ROOT / "README.md", DOCS / "README.md")
    )
    assert [name for name, _ in home] == ["demo", "tests"]
    assert home == readme


def test_every_gate_and_alarm_is_explained_in_the_guides() -> None:
    statistics, watching = ((DOCS / name).read_text() for name in ("statistics.md", "watching.md"))
    assert [gate for gate in GateName if gate not in statistics] == []
    assert [kind for kind in AlarmKind if f"`{kind}`" not in watching] == []
    assert members.described(GateName).keys() == set(GateName)


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    assert hooks.fetched_from_elsewhere('<script src="https://cdn.example/x.js">') == ["https://cdn.example/x.js"]
    assert hooks.fetched_from_elsewhere('<link rel="stylesheet" href="http://a.b/x.css">') == ["http://a.b/x.css"]
    own = '<img src="images/x.svg"><a href="https://example.com">there</a><link href="data:,x"><link rel="canonical" href="https://x.y/">'
    assert hooks.fetched_from_elsewhere(own) == []


@pytest.mark.timeout(120)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [
            Path(sysconfig.get_path("scripts"), "mkdocs"),
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            tmp_path / "site",
        ],
        cwd=documentation.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    # What a page links to outside of docs is a page of its own.
    assert "max_payload" in (tmp_path / "site" / "source" / "deploy" / "nats.conf.html").read_text()
