"""Stock clients while flags change, while control is away, and while its database is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import grpc
import pytest
import requests
from openfeature.contrib.provider.flagd.config import CacheType
from openfeature.schemas.protobuf.flagd.evaluation.v2 import evaluation_pb2, evaluation_pb2_grpc
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

import javascript_clients
from javascript_clients import JavaScriptReader, Node
from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import migrate
from serving_flags import (
    Answer,
    PythonReader,
    Serving,
    flag,
    in_process_provider,
    ofrep_provider,
    put_flags,
    python_reader,
    rpc_provider,
    serving,
)
from waiting import PATIENCE, until_sync

READY, STALE, CHANGED = "PROVIDER_READY", "PROVIDER_STALE", "PROVIDER_CONFIGURATION_CHANGED"
_numbers = itertools.count(1)
COLOURS = {"red": "red", "blue": "blue"}


class Client(Protocol):
    """A stock client that tells what happens to it."""

    def colour(self) -> Answer: ...

    def changed(self) -> list[str]: ...

    def lost(self) -> None: ...

    def ready(self) -> None: ...


class _Python:
    def __init__(self, reader: PythonReader) -> None:
        self._reader = reader

    def colour(self) -> Answer:
        return self._reader.read("string", "colour", "none", {})

    def changed(self) -> list[str]:
        return self._reader.event(CHANGED).flags_changed or []

    def lost(self) -> None:
        self._reader.event(STALE)

    def ready(self) -> None:
        self._reader.event(READY)


class _JavaScript:
    def __init__(self, reader: JavaScriptReader) -> None:
        self._reader = reader

    def colour(self) -> Answer:
        return self._reader.read("string", "colour", "none", {})

    def changed(self) -> list[str]:
        return list(self._reader.event(CHANGED)["flags"])

    def lost(self) -> None:
        self._reader.event(STALE)

    def ready(self) -> None:
        self._reader.event(READY)


@contextmanager
def python_rpc(control: Serving) -> Iterator[Client]:
    with python_reader(rpc_provider(control, cache=CacheType.LRU)) as reader:
        yield _Python(reader)


@contextmanager
def python_in_process(control: Serving) -> Iterator[Client]:
    with python_reader(in_process_provider(control)) as reader:
        yield _Python(reader)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with javascript_clients.node() as process:
        yield process


@pytest.fixture(params=["python-rpc", "python-in-process", "javascript-rpc", "javascript-in-process"])
def client(request: pytest.FixtureRequest, control: Serving) -> Iterator[Client]:
    """Each stock client that hears of changes, ready."""
    language, _, mode = request.param.partition("-")
    with ExitStack() as stack:
        if language == "javascript":
            cache = {"cache": "lru"} if mode == "rpc" else {}
            client: Client = _JavaScript(JavaScriptReader(request.getfixturevalue("node"), control, mode, **cache))
        else:
            client = stack.enter_context({"rpc": python_rpc, "in-process": python_in_process}[mode](control))
        client.ready()
        yield client


@pytest.fixture
def control(database_url: str) -> Iterator[Serving]:
    put_flags(database_url, {"colour": flag(COLOURS, "red"), "other": flag({"on": True}, "on")})
    with serving(database_url) as control:
        yield control


def test_a_change_is_announced_by_its_flags_name_and_read_at_once(
    control: Serving, client: Client, request: pytest.FixtureRequest
) -> None:
    assert client.colour().value == "red"
    control.put(colour=flag(COLOURS, "blue"))
    if request.node.callspec.id == "javascript-in-process":
        # There a flag counts as changed when the metadata of its set do, and those have the revision.
        assert "colour" in client.changed()
    else:
        # An event before it may name every flag: by the protocol, or because all were new.
        until_sync(lambda: client.changed() == ["colour"])
    assert client.colour().value == "blue"


def test_a_change_made_while_control_was_away_reaches_the_client(control: Serving, client: Client) -> None:
    assert client.colour().value == "red"
    control.stop()
    client.lost()
    control.put(colour=flag(COLOURS, "blue"))
    control.start()
    client.ready()
    until_sync(lambda: client.colour().value == "blue")


def test_a_cached_value_of_before_does_not_outlive_the_return(control: Serving) -> None:
    """Without every flag's name on return, a flag that changed meanwhile would stay cached for good."""
    with python_rpc(control) as client:
        until_sync(lambda: client.colour().reason == "CACHED")
        control.stop()
        client.lost()
        assert client.colour() == Answer(value="red", reason="CACHED", variant="red", metadata={})
        control.put(colour=flag(COLOURS, "blue"))
        control.start()
        client.ready()
        until_sync(lambda: client.colour().value == "blue")
        until_sync(lambda: client.colour().reason == "CACHED")
        assert client.colour().value == "blue"


def test_in_process_clients_keep_the_last_known_flags_while_control_is_away(control: Serving) -> None:
    with python_in_process(control) as client:
        control.stop()
        client.lost()
        assert client.colour().value == "red"


def test_over_ofrep_the_callers_default_counts_while_control_is_away(control: Serving) -> None:
    with python_reader(ofrep_provider(control)) as reader:
        control.stop()
        away = reader.read("string", "colour", "none", {})
        assert (away.value, away.error) == ("none", "GENERAL")
        control.start()
        until_sync(lambda: reader.read("string", "colour", "none", {}).value == "red")


def test_a_malformed_flag_costs_the_others_nothing(database_url: str, request: pytest.FixtureRequest) -> None:
    malformed = {
        "no-state": {"variants": COLOURS, "defaultVariant": "red"},
        "no-variants": {"state": "ENABLED", "variants": {}, "defaultVariant": "red"},
        "stray-default": flag(COLOURS, "green"),
        "nested-metadata": flag(COLOURS, "red", metadata={"team": {"name": "a"}}),
        "stray-field": flag(COLOURS, "red", colour="red"),
    }
    put_flags(database_url, {"colour": flag(COLOURS, "red"), **malformed})
    with serving(database_url) as control, ExitStack() as stack:
        rpc, in_process, ofrep = (
            stack.enter_context(python_reader(make(control)))
            for make in (rpc_provider, in_process_provider, ofrep_provider)
        )
        for reader in (rpc, in_process, ofrep):
            assert reader.read("string", "colour", "none", {}).value == "red"
        for key in malformed:
            assert rpc.read("string", key, "none", {}).error == "PARSE_ERROR"
            assert ofrep.read("string", key, "none", {}).error == "PARSE_ERROR"
            assert in_process.read("string", key, "none", {}).error == "FLAG_NOT_FOUND"
        left_out = requests.get(f"{control.url}/readyz", timeout=PATIENCE).json()["flags"]["leftOut"]
        assert set(left_out) == set(malformed)
        assert left_out["stray-default"] == 'its defaultVariant "green" is none of its variants'
        javascript = JavaScriptReader(request.getfixturevalue("node"), control, "in-process")
        assert javascript.read("string", "colour", "none", {}).value == "red"
        # A flag that is mended is handed on; one that breaks is not.
        control.put(**{"stray-default": flag(COLOURS, "blue"), "colour": flag(COLOURS, "green")})
        until_sync(lambda: in_process.read("string", "stray-default", "none", {}).value == "blue")
        assert in_process.read("string", "colour", "none", {}).error == "FLAG_NOT_FOUND"


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that tests may stop, and leave running."""
    engine = EmbeddedPostgres(tmp_path_factory.mktemp("own") / "postgres")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def own_url(own_postgres: EmbeddedPostgres) -> str:
    """A database of its own in it, with one flag."""
    url = own_postgres.create_database(f"own_{next(_numbers)}")
    migrate(url)
    put_flags(url, {"colour": flag(COLOURS, "red")})
    return url


def test_control_that_is_ready_knows_its_flags(own_url: str) -> None:
    with serving(own_url) as control:
        first = requests.post(f"{control.url}/ofrep/v1/evaluate/flags/colour", json={"context": {}}, timeout=PATIENCE)
        assert first.json()["value"] == "red", first.text


def test_the_last_known_flags_are_served_while_the_database_is_away_and_say_so(
    own_postgres: EmbeddedPostgres, own_url: str
) -> None:
    with serving(own_url, flag_stale_after=0.5) as control, ExitStack() as stack:
        reader = stack.enter_context(python_reader(ofrep_provider(control)))
        in_process = stack.enter_context(python_reader(in_process_provider(control)))

        def is_stale() -> bool:
            answer = reader.read("string", "colour", "none", {})
            assert answer.value == "red"
            told: bool = requests.get(f"{control.url}/readyz", timeout=PATIENCE).json()["flags"]["stale"]
            assert answer.metadata is not None
            return told and answer.metadata.get("stale") is True

        assert not is_stale()
        own_postgres.stop()
        until_sync(is_stale)
        bulk = requests.post(f"{control.url}/ofrep/v1/evaluate/flags", json={"context": {}}, timeout=PATIENCE)
        assert bulk.json()["metadata"]["stale"] is True
        with python_reader(in_process_provider(control)) as newcomer:
            assert newcomer.read("string", "colour", "none", {}).value == "red"
        own_postgres.start()
        until_sync(lambda: not is_stale())
        control.put(colour=flag(COLOURS, "blue"))
        until_sync(lambda: in_process.read("string", "colour", "none", {}).value == "blue")


def test_nobody_is_told_of_an_empty_set_before_the_flags_were_ever_read(
    own_postgres: EmbeddedPostgres, own_url: str
) -> None:
    own_postgres.stop()
    with serving(own_url) as control:
        single = requests.post(f"{control.url}/ofrep/v1/evaluate/flags/colour", json={"context": {}}, timeout=PATIENCE)
        bulk = requests.post(f"{control.url}/ofrep/v1/evaluate/flags", json={"context": {}}, timeout=PATIENCE)
        for answer in (single, bulk):
            assert (answer.status_code, answer.json()["errorCode"]) == (503, "PROVIDER_NOT_READY")
            assert answer.headers["Retry-After"] == "1"
        assert requests.get(f"{control.url}/readyz", timeout=PATIENCE).status_code == 503
        assert requests.get(f"{control.url}/healthz", timeout=PATIENCE).status_code == 200
        with grpc.insecure_channel(control.grpc) as channel:
            sync = sync_pb2_grpc.FlagSyncServiceStub(channel)
            asked = evaluation_pb2.ResolveStringRequest(flag_key="colour")
            for ask in (
                lambda: evaluation_pb2_grpc.ServiceStub(channel).ResolveString(asked),
                lambda: sync.FetchAllFlags(sync_pb2.FetchAllFlagsRequest()),
                lambda: list(sync.SyncFlags(sync_pb2.SyncFlagsRequest())),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    ask()
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "not read yet" in str(refused.value.details())
            own_postgres.start()
            first = next(iter(sync.SyncFlags(sync_pb2.SyncFlagsRequest(), wait_for_ready=True)))
            assert '"colour"' in first.flag_configuration
