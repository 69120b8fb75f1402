"""The provider that MULTISHADOW_FLAG_PROVIDER names, and everything that can be wrong with the name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider

from multishadow_server.adapters.flag_provider import make_provider
from multishadow_server.errors import InvalidInput
from multishadow_server.settings import Settings

MODULE = """
import threading
from openfeature.provider.in_memory_provider import InMemoryProvider
from openfeature.provider.no_op_provider import NoOpProvider

def memory(): return InMemoryProvider({})
def foreign(): return NoOpProvider()
def said_local(): return NoOpProvider()
said_local.evaluates_locally = True
def said_remote():
    provider = InMemoryProvider({})
    provider.evaluates_locally = False
    return provider
def nothing(): return None
def failing(): raise KeyError("FLAGD_HOST")
released = threading.Event()
def hanging(): released.wait()
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "operators_flags.py").write_text(MODULE)
    (tmp_path / "broken_flags.py").write_text("import no_such_vendor")
    monkeypatch.syspath_prepend(tmp_path)
    yield "operators_flags"
    sys.modules.pop("broken_flags", None)
    imported = sys.modules.pop("operators_flags", None)
    if imported is not None:
        imported.released.set()


@pytest.mark.parametrize(
    ("factory", "local"),
    [("memory", True), ("foreign", False), ("said_local", True), ("said_remote", False)],
)
def test_a_provider_is_asked_in_the_event_loop_only_where_it_evaluates_locally(
    module: str, factory: str, local: bool
) -> None:
    assert make_provider(f"{module}:{factory}").local is local


@pytest.mark.parametrize(("resolver", "local"), [("in-process", True), ("file", True), ("rpc", False)])
def test_flagds_provider_is_a_factory_configured_by_its_own_variables(
    resolver: str, local: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text('{"flags": {}}')
    monkeypatch.setenv("FLAGD_RESOLVER", resolver)
    if resolver == "file":
        monkeypatch.setenv("FLAGD_OFFLINE_FLAG_SOURCE_PATH", str(flags))
    named = make_provider("openfeature.contrib.provider.flagd:FlagdProvider")
    assert (named.name, named.local) == ("FlagdProvider", local)
    named.provider.shutdown()


def test_our_own_provider_for_applications_says_that_it_is_local() -> None:
    named = make_provider("multishadow_client.openfeature:MultishadowProvider")
    assert (named.name, named.local) == ("multishadow", True)


def test_ofrep_is_configured_by_the_variables_of_the_other_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFREP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OFREP_HEADERS", "Authorization=Bearer x=y, X-Team=ml")
    named = make_provider("multishadow_server.adapters.flag_provider:ofrep")
    assert isinstance(named.provider, OFREPProvider)
    assert not named.local
    assert named.provider.headers_factory is not None
    assert named.provider.headers_factory() == {"Authorization": "Bearer x=y", "X-Team": "ml"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("flagd", "must be module:factory"),
        (":factory", "must be module:factory"),
        ("no_such_module:factory", "no_such_module cannot be imported (ModuleNotFoundError"),
        ("broken_flags:factory", "No module named 'no_such_vendor'"),
        ("operators_flags:absent", "operators_flags has no callable absent"),
        ("operators_flags:number", "operators_flags has no callable number"),
        ("operators_flags:nothing", "it made a NoneType, which is no OpenFeature provider: initialize is missing"),
        ("operators_flags:failing", "the factory failed: KeyError: 'FLAGD_HOST'"),
        ("operators_flags:hanging", "the factory did not return within 0.05 s"),
        ("multishadow_server.adapters.flag_provider:ofrep", "OFREP_ENDPOINT must say where"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_wrong_with_the_name_is_told(path: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFREP_ENDPOINT", raising=False)
    with pytest.raises(InvalidInput) as caught:
        make_provider(path, within=0.05 if path.endswith("hanging") else 10.0)
    assert str(caught.value).startswith("MULTISHADOW_FLAG_PROVIDER")
    assert said in str(caught.value)


def test_a_factory_that_hangs_keeps_no_process_from_ending(module: str) -> None:
    with pytest.raises(InvalidInput, match="did not return"):
        make_provider(f"{module}:hanging", within=0.01)
    hanging = [thread for thread in threading.enumerate() if "flag-provider-factory" in thread.name]
    assert hanging
    assert all(thread.daemon for thread in hanging)


@pytest.mark.parametrize("template", ["{model}", "{version}", "{model}.{name}", "{model}{model}", "{", ""])
def test_a_key_template_names_model_and_version(template: str) -> None:
    with pytest.raises(ValueError, match="flag_key_template"):
        Settings(flag_key_template=template)
    for good in ("{model}-{version}", "ml_{version}_of_{model}_v"):
        assert Settings(flag_key_template=good).flag_key_template == good
