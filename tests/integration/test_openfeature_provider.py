"""The provider for applications: it evaluates in process, follows the server, and tells the truth about both."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus
from openfeature.provider.no_op_provider import NoOpProvider
from openfeature.track import TrackingEventDetails

from flagd_sync_server import SyncServer, flag_set, publishing, text_flag
from multishadow_client.openfeature import MultishadowProvider, Tracking
from multishadow_server.adapters.embedded import dies_with_parent
from waiting import PATIENCE, until_sync

READY, STALE, ERROR, FATAL = ProviderStatus.READY, ProviderStatus.STALE, ProviderStatus.ERROR, ProviderStatus.FATAL
GREETING = {"greeting": text_flag("hello")}
OWN_THREADS = {"multishadow-flags", "multishadow-flags-stream", "multishadow-outcomes"}
KINDS = {
    "text": text_flag("hello"),
    "switch": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"},
    "count": {"state": "ENABLED", "variants": {"few": 3}, "defaultVariant": "few"},
    "share": {"state": "ENABLED", "variants": {"some": 0.5}, "defaultVariant": "some"},
    "limits": {"state": "ENABLED", "variants": {"all": {"most": [1, 2]}}, "defaultVariant": "all"},
    "ruled": text_flag("hello", targeting={"if": [{"==": [{"var": "group"}, "beta"]}, "other", "it"]}),
}


@pytest.fixture
def server() -> Iterator[SyncServer]:
    with publishing(flag_set(GREETING)) as server:
        yield server


class Application:
    """An application with a provider, and what it heard."""

    def __init__(self, provider: MultishadowProvider, domain: str) -> None:
        self.provider = provider
        self.client: OpenFeatureClient = api.get_client(domain)
        self.heard: list[tuple[ProviderEvent, EventDetails]] = []
        for event in ProviderEvent:
            self.client.add_handler(event, self._hearing(event))

    def _hearing(self, event: ProviderEvent) -> Callable[[EventDetails], None]:
        def hear(details: EventDetails) -> None:
            # Before it is set, its domain has the SDK's own provider, which is always ready.
            if details.provider_name == "multishadow":
                self.heard.append((event, details))

        return hear

    def text(self, key: str = "greeting", **attributes: Any) -> str:
        return self.client.get_string_value(key, "default", EvaluationContext("user-1", attributes))

    def changes(self) -> list[list[str]]:
        """The changed keys that it heard of, in order."""
        wanted = ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
        return [details.flags_changed or [] for event, details in self.heard if event is wanted]

    def becomes(self, state: ProviderStatus) -> bool:
        until_sync(lambda: self.provider.status is state)
        return True


Start = Callable[..., Application]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts applications; `wait=False` when it is expected to fail."""
    with ExitStack() as stack:

        def begin(address: str, *, waits: bool = True, **options: Any) -> Application:
            domain = f"app-{time.monotonic_ns()}"
            provider = MultishadowProvider(address, **{"grace": 0.2, "init_timeout": 5.0, **options})
            application = Application(provider, domain)
            stack.callback(provider.shutdown)
            (api.set_provider_and_wait if waits else api.set_provider)(provider, domain=domain)
            return application

        yield begin
    api.shutdown()
    until_sync(lambda: not own_threads())


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in OWN_THREADS]


# --- evaluating ---------------------------------------------------------------------------------------------------


def test_every_kind_of_flag_is_evaluated_in_process(start: Start, server: SyncServer) -> None:
    server.publish(flag_set(KINDS, revision=7))
    application = start(server.address)
    client = application.client
    assert client.get_string_value("text", "") == "hello"
    assert client.get_boolean_value("switch", default_value=False) is True
    assert client.get_integer_value("count", 0) == 3
    assert client.get_float_value("share", 0.0) == 0.5
    assert client.get_object_value("limits", {}) == {"most": [1, 2]}
    assert application.text("ruled", group="beta") == "other"
    details = client.get_string_details("ruled", "", EvaluationContext("u", {"group": "beta"}))
    assert (details.variant, details.reason, details.flag_metadata["version"]) == ("other", Reason.TARGETING_MATCH, "7")
    assert application.provider.revision == "7"
    assert client.get_string_details("nowhere", "default").error_code is ErrorCode.FLAG_NOT_FOUND
    assert client.get_string_details("count", "default").error_code is ErrorCode.TYPE_MISMATCH


async def test_the_async_methods_answer_the_same(start: Start, server: SyncServer) -> None:
    server.publish(flag_set(KINDS))
    client = (await asyncio.to_thread(start, server.address)).client
    assert await client.get_string_value_async("text", "") == "hello"
    assert await client.get_boolean_value_async("switch", default_value=False) is True
    assert await client.get_integer_value_async("count", 0) == 3
    assert await client.get_float_value_async("share", 0.0) == 0.5
    assert await client.get_object_value_async("limits", {}) == {"most": [1, 2]}


def test_an_object_is_the_callers_to_change(start: Start, server: SyncServer) -> None:
    server.publish(flag_set(KINDS))
    client = start(server.address).client
    given: Any = client.get_object_value("limits", {})
    given["most"].append(3)
    assert client.get_object_value("limits", {}) == {"most": [1, 2]}


def test_what_the_server_adds_to_the_context_is_seen_by_rules(start: Start, server: SyncServer) -> None:
    server.context = {"group": "beta"}
    server.publish(flag_set(KINDS))
    assert start(server.address).text("ruled") == "other"


def test_users_fall_into_the_golden_buckets(start: Start, server: SyncServer) -> None:
    def weighted(shadow: int, off: int) -> dict[str, Any]:
        rule = {"fractional": [["shadow", shadow], ["off", off]]}
        variants = {"off": "off", "shadow": "shadow"}
        return {"state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": rule}

    server.publish(flag_set({"spam.A": weighted(25, 75), "spam.B": weighted(25, 75), "spam.C": weighted(5, 95)}))
    client = start(server.address).client

    def claim(key: str, user: str) -> str:
        return client.get_string_value(key, "none", EvaluationContext(user))

    claims = [
        claim("spam.A", "user-1"),
        claim("spam.A", "user-3"),
        claim("spam.B", "user-1"),
        claim("spam.C", "user-17"),
    ]
    assert claims == ["shadow", "off", "shadow", "shadow"]
    server.publish(flag_set({"spam.A": weighted(1, 999)}, revision=2))
    until_sync(lambda: claim("spam.B", "user-1") == "none")
    assert claim("spam.A", "user-612") == "shadow"


def test_the_selector_is_sent(start: Start, server: SyncServer) -> None:
    start(server.address, selector="flagSetId=web")
    assert server.selectors == ["flagSetId=web"]


# --- changes ------------------------------------------------------------------------------------------------------


def test_a_change_is_read_at_once_and_its_keys_are_told(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    server.publish(flag_set({**GREETING, "new": text_flag("x")}, revision=2))
    until_sync(lambda: application.changes() == [["new"]])
    server.publish(flag_set({"greeting": text_flag("bye")}, revision=3))
    until_sync(lambda: application.changes() == [["new"], ["greeting", "new"]])
    assert application.text() == "bye"
    assert application.provider.revision == "3"


def test_a_shared_rule_that_changes_changes_the_flags_that_refer_to_it(start: Start, server: SyncServer) -> None:
    flags = {**GREETING, "ruled": text_flag("hello", targeting={"$ref": "who"})}
    rule = {"if": [{"==": [{"var": "group"}, "beta"]}, "other", "it"]}
    server.publish(flag_set(flags, evaluators={"who": rule}))
    application = start(server.address)
    assert application.text("ruled", group="beta") == "other"
    server.publish(flag_set(flags, evaluators={"who": {"if": [True, "it", "other"]}}))
    until_sync(lambda: application.changes() == [["ruled"]])
    assert application.text("ruled", group="beta") == "hello"


def test_the_same_set_again_is_no_change(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    server.publish(flag_set(GREETING, revision=2))
    until_sync(lambda: application.provider.revision == "2")
    assert application.changes() == []


@pytest.mark.parametrize(
    "published",
    [
        "", "nonsense", "[]", "7", '{"flags": []}', '{"flags": {"greeting": 7}}', '{"flags": {"greeting": {}}}',
        '{"flags": {"greeting": {"state": "SOMETIMES", "variants": {"a": 1}}}}',
        '{"flags": {}, "metadata": {"a": null}}',
        '{"flags": {"greeting": {"state": "ENABLED", "variants": {"a": "b"}, "unheardOf": 1}}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_set_is_not_taken_and_the_last_one_stays(start: Start, server: SyncServer, published: str) -> None:
    application = start(server.address)
    server.publish(published)
    assert application.becomes(ERROR)
    assert application.text() == "hello"
    assert application.provider.age > 0
    until_sync(lambda: application.heard[-1][0] is ProviderEvent.PROVIDER_ERROR)
    assert "published flags that cannot be used" in str(application.heard[-1][1].message)
    server.publish(flag_set({"greeting": text_flag("bye")}, revision=2))
    assert application.becomes(READY)
    until_sync(lambda: application.changes() == [["greeting"]])
    assert application.text() == "bye"


def test_a_context_that_is_no_json_is_malformed_too(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    server.context = {"load": math.nan}
    server.publish(flag_set({"greeting": text_flag("bye")}, revision=2))
    assert application.becomes(ERROR)
    assert application.text() == "hello"


def test_kept_flags_and_a_server_that_publishes_nonsense_are_an_error(
    start: Start, server: SyncServer, tmp_path: Path
) -> None:
    kept = tmp_path / "flags.json"
    start(server.address, cache_path=kept)
    until_sync(kept.exists)
    server.publish("nonsense")
    application = start(server.address, cache_path=kept, init_timeout=60.0)
    assert application.becomes(ERROR)
    assert application.text() == "hello"
    assert "hello" in kept.read_text()


def test_ten_thousand_flags_are_swapped_whole_under_threads_that_evaluate(start: Start, server: SyncServer) -> None:
    def many(value: str) -> str:
        return flag_set({f"flag-{n}": text_flag(value) for n in range(10_000)}, revision=len(value))

    server.publish(many("a"))
    application = start(server.address, init_timeout=30.0)
    stop = threading.Event()

    def is_at(revision: str) -> bool:
        return application.provider.revision == revision

    def evaluate(worker: int) -> set[str]:
        seen: set[str] = set()
        while not stop.is_set():
            # A set that is seen half swapped would have flags that do not exist, and the default.
            seen |= {application.text(f"flag-{n}") for n in range(worker, 10_000, 997)}
        return seen

    with ThreadPoolExecutor(4) as threads:
        seen = [threads.submit(evaluate, worker) for worker in range(4)]
        for value in ("bb", "ccc"):
            server.publish(many(value))
            until_sync(partial(is_at, str(len(value))))
        stop.set()
    assert set().union(*(future.result() for future in seen)) <= {"a", "bb", "ccc"}
    until_sync(lambda: [len(keys) for keys in application.changes()] == [10_000, 10_000])


# --- loss ---------------------------------------------------------------------------------------------------------


def test_a_server_that_goes_away_leaves_the_last_flags_and_a_stale_state(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    server.stop()
    assert application.becomes(STALE)
    assert application.text() == "hello"
    age = application.provider.age
    assert age > 0
    until_sync(lambda: application.provider.age > age)
    server.publish(flag_set({"greeting": text_flag("changed meanwhile")}, revision=2))
    server.start()
    assert application.becomes(READY)
    assert application.text() == "changed meanwhile"
    assert application.provider.age == 0
    until_sync(lambda: application.changes() == [["greeting"]])
    states = [event for event, _ in application.heard if event is not ProviderEvent.PROVIDER_CONFIGURATION_CHANGED]
    assert states == [ProviderEvent.PROVIDER_READY, ProviderEvent.PROVIDER_STALE, ProviderEvent.PROVIDER_READY]


def test_a_stream_that_ends_and_comes_back_within_the_grace_is_nobodys_business(
    start: Start, server: SyncServer
) -> None:
    application = start(server.address, grace=30.0)
    server.stop()
    server.publish(flag_set({"greeting": text_flag("bye")}, revision=2))
    server.start()
    until_sync(lambda: application.text() == "bye")
    assert application.provider.status is READY
    assert ProviderEvent.PROVIDER_STALE not in [event for event, _ in application.heard]


def test_a_life_that_is_still_ending_takes_nothing_from_the_next_one(start: Start, server: SyncServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        # Outcomes that nobody takes hold up the end.
        nobody = f"127.0.0.1:{deaf.getsockname()[1]}"
        tracking = Tracking(control=nobody, model="spam", flush_interval=0.01, flush_at_end=0.5)
        application = start(server.address, tracking=tracking)
        provider = application.provider
        provider.track("outcome", EvaluationContext("user-1", {"request_id": "r-1"}), TrackingEventDetails(value=1.0))
        ending = threading.Thread(target=provider.shutdown)
        ending.start()
        until_sync(provider._closed.is_set)
        provider.initialize(EvaluationContext())
        ending.join()
        server.publish(flag_set({"greeting": text_flag("bye")}, revision=2))
        until_sync(lambda: application.text() == "bye")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts servers as processes of their own, for tests that kill and freeze them."""
    with ExitStack() as stack:

        def begin(published: str, address: str = "127.0.0.1:0") -> subprocess.Popen[str]:
            script = Path(__file__).parents[1] / "flagd_sync_server.py"
            command = [sys.executable, str(script), address]
            started = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
            )
            stack.callback(started.communicate)
            stack.callback(started.kill)
            stack.callback(started.send_signal, signal.SIGCONT)
            assert started.stdin is not None
            with closing(started.stdin):
                started.stdin.write(published)
            started.stdin = None
            return started

        yield begin


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_killed_server_and_its_successor_with_other_flags(start: Start, process: Any) -> None:
    first = process(flag_set(GREETING))
    address = address_of(first)
    application = start(address)
    first.kill()
    first.wait()
    assert application.becomes(STALE)
    assert application.text() == "hello"
    assert address_of(process(flag_set({"greeting": text_flag("bye")}, revision=2), address)) == address
    assert application.becomes(READY)
    assert application.text() == "bye"


def test_a_frozen_server_is_noticed_and_its_thaw_too(start: Start, process: Any) -> None:
    frozen = process(flag_set(GREETING))
    application = start(address_of(frozen), keepalive=0.5)
    frozen.send_signal(signal.SIGSTOP)
    assert application.becomes(STALE)
    began = time.monotonic()
    # Whoever asked the server each time would wait for it each time.
    assert {application.text() for _ in range(1_000)} == {"hello"}
    assert time.monotonic() - began < 5.0
    frozen.send_signal(signal.SIGCONT)
    assert application.becomes(READY)


# --- the beginning ------------------------------------------------------------------------------------------------


def test_without_a_server_the_start_is_bounded_and_the_defaults_hold_until_it_comes(
    start: Start, server: SyncServer
) -> None:
    server.stop()
    began = time.monotonic()
    with pytest.raises(ProviderNotReadyError) as caught:
        start(server.address, init_timeout=0.3)
    assert 0.2 < time.monotonic() - began < 5.0, "as long as by default"
    assert f"no flags from {server.address} within 0.3 s" in str(caught.value.error_message)
    application = start(server.address, init_timeout=0.1, waits=False)
    assert application.becomes(ERROR)
    details = application.client.get_string_details("greeting", "default")
    assert (details.value, details.error_code) == ("default", ErrorCode.PROVIDER_NOT_READY)
    server.start()
    assert application.becomes(READY)
    assert application.text() == "hello"


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(start: Start, server: SyncServer) -> None:
    server.silent = True
    began = time.monotonic()
    with pytest.raises(ProviderNotReadyError):
        start(server.address, init_timeout=0.2)
    assert time.monotonic() - began < 5.0, "as long as by default"
    server.silent = False
    server.publish(flag_set(GREETING))


@pytest.mark.parametrize(
    "status",
    [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED],
)
def test_a_server_that_will_never_give_flags_is_fatal_and_asked_once(
    start: Start, server: SyncServer, status: grpc.StatusCode
) -> None:
    server.status = (status, "not for you")
    with pytest.raises(ProviderFatalError) as caught:
        start(server.address)
    assert f"serves no flags: {status.name}: not for you" in str(caught.value.error_message)
    assert server.selectors == [""]
    until_sync(lambda: not own_threads())


def test_a_server_that_refuses_later_costs_no_value_and_can_heal(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    server.stop()
    server.status = (grpc.StatusCode.PERMISSION_DENIED, "the token has expired")
    server.start()
    assert application.becomes(ERROR)
    assert application.text() == "hello"
    server.status = None
    assert application.becomes(READY)


def test_a_restart_without_the_server_begins_with_the_flags_that_were_kept(
    start: Start, server: SyncServer, tmp_path: Path
) -> None:
    kept = tmp_path / "flags.json"
    first = start(server.address, cache_path=kept)
    until_sync(kept.exists)
    assert kept.stat().st_mode & 0o077 == 0
    first.provider.shutdown()
    server.stop()
    second = start(server.address, cache_path=kept)
    assert second.becomes(STALE)
    assert second.text() == "hello"
    assert second.provider.age > 0
    server.publish(flag_set({"greeting": text_flag("bye")}, revision=2))
    server.start()
    assert second.becomes(READY)
    until_sync(lambda: second.changes() == [["greeting"]])
    until_sync(lambda: "bye" in kept.read_text())


def test_kept_flags_and_a_server_that_says_nothing_are_stale(start: Start, server: SyncServer, tmp_path: Path) -> None:
    kept = tmp_path / "flags.json"
    start(server.address, cache_path=kept)
    until_sync(kept.exists)
    server.silent = True
    application = start(server.address, cache_path=kept, init_timeout=0.2)
    assert application.becomes(STALE)
    assert application.text() == "hello"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"selector": "", "flags": "{", "context": {}}', '{"selector": "x"}']
)
def test_a_kept_file_that_cannot_be_used_is_none(
    start: Start, server: SyncServer, tmp_path: Path, content: str
) -> None:
    kept = tmp_path / "flags.json"
    kept.write_text(content)
    server.stop()
    with pytest.raises(ProviderNotReadyError):
        start(server.address, cache_path=kept, init_timeout=0.1)


def test_a_place_where_nothing_can_be_kept_costs_nothing_else(start: Start, server: SyncServer, tmp_path: Path) -> None:
    assert start(server.address, cache_path=tmp_path / "no" / "such" / "flags.json").text() == "hello"


# --- the end ------------------------------------------------------------------------------------------------------


def test_shutting_down_leaves_no_thread_and_the_last_values(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    assert own_threads()
    application.provider.shutdown()
    assert own_threads() == []
    assert application.provider.resolve_string_details("greeting", "").value == "hello"


def test_a_provider_that_was_replaced_may_begin_again(start: Start, server: SyncServer) -> None:
    application = start(server.address)
    api.set_provider_and_wait(NoOpProvider(), domain=application.client.domain)
    until_sync(lambda: not own_threads())
    server.publish(flag_set({"greeting": text_flag("bye")}, revision=2))
    api.set_provider_and_wait(application.provider, domain=application.client.domain)
    until_sync(lambda: application.text() == "bye")
    assert application.provider.status is READY


def test_a_fork_that_starts_its_own_provider_has_its_own_flags(server: SyncServer) -> None:
    program = """
import os, sys
from openfeature import api
from multishadow_client.openfeature import MultishadowProvider
if (child := os.fork()) == 0:
    api.set_provider_and_wait(MultishadowProvider(sys.argv[1]))
    sys.stdout.write(api.get_client().get_string_value("greeting", "default"))
    sys.stdout.flush()
    api.shutdown()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-c", program, server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


def test_without_the_extra_the_import_says_what_to_install() -> None:
    program = """
import sys
sys.modules["openfeature.contrib.tools.flagd.core"] = None
import multishadow_client
try:
    import multishadow_client.openfeature
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "needs openfeature.contrib.tools.flagd.core" in done.stdout
    assert "pip install 'multishadow[openfeature]'" in done.stdout


def test_kept_flags_are_plain_json(start: Start, server: SyncServer, tmp_path: Path) -> None:
    kept = tmp_path / "flags.json"
    start(server.address, cache_path=kept)
    until_sync(kept.exists)
    assert json.loads(json.loads(kept.read_text())["flags"])["flags"].keys() == GREETING.keys()
