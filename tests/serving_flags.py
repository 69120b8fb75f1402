"""Control in a thread of its own, and stock OpenFeature clients of the flags that it serves."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import psycopg
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import CacheType, ResolverType
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.provider import FeatureProvider
from psycopg.types.json import Jsonb

from multishadow_server.adapters.postgres.configuration import CHANNEL
from multishadow_server.app import control as control_role
from multishadow_server.settings import Settings
from waiting import PATIENCE

_domains = itertools.count(1)
FREE = "127.0.0.1:0"
# Stock clients wait long between attempts by default; tests do not.
QUICKLY: Mapping[str, Any] = {"deadline_ms": int(1_000 * PATIENCE), "retry_backoff_ms": 50, "retry_backoff_max_ms": 50}


def flag(variants: Mapping[str, Any], default: str | None, targeting: Any = None, **more: Any) -> dict[str, Any]:
    """A definition in flagd's format."""
    rule = {} if targeting is None else {"targeting": targeting}
    return {"state": "ENABLED", "variants": dict(variants), "defaultVariant": default, **rule, **more}


def put_flags(database_url: str, flags: Mapping[str, Any]) -> int:
    """Write definitions as they are, past every check, as an older release or a hand may have; return the revision."""
    with psycopg.connect(database_url) as connection:
        made = connection.execute("UPDATE configuration_revision SET revision = revision + 1 RETURNING revision")
        revision = int(made.fetchall()[0][0])
        for key, definition in flags.items():
            connection.execute(
                "INSERT INTO flag_revision (key, revision, definition, changed_at, changed_by, reason) "
                "VALUES (%s, %s, %s, clock_timestamp(), 'ada', 'for a test')",
                (key, revision, Jsonb(definition)),
            )
            connection.execute(
                "INSERT INTO flag (key, revision) VALUES (%s, %s) "
                "ON CONFLICT (key) DO UPDATE SET revision = excluded.revision",
                (key, revision),
            )
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, str(revision)))
    return revision


class Serving:
    """Control in a thread. It can be stopped, and started again at the same addresses."""

    def __init__(self, database_url: str, **settings: Any) -> None:
        self._database_url = database_url
        self._settings = {"drain_seconds": 0.5, "report_interval": 0.5, "flag_check_interval": 0.1, **settings}
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = lambda: None
        self.grpc, self.http = FREE, FREE

    @property
    def port(self) -> int:
        return int(self.grpc.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def start(self) -> None:
        settings = Settings(
            database_url=self._database_url, control_listen=self.grpc, http_listen=self.http, **self._settings
        )
        ready: queue.Queue[BaseException | str] = queue.Queue()

        async def serve() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            self._end = partial(loop.call_soon_threadsafe, stop.set)
            await control_role.run(settings, stop, ready=ready.put, http_ready=self._found_http)

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:  # noqa: BLE001  whoever waits for it is to know
                ready.put(error)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        outcome = ready.get(timeout=PATIENCE)
        if isinstance(outcome, BaseException):
            raise outcome
        self.grpc = outcome

    def stop(self) -> None:
        if self._thread is not None:
            self._end()
            self._thread.join(timeout=PATIENCE)
            assert not self._thread.is_alive()
        self._thread = None

    def put(self, **flags: Any) -> int:
        """Write flags as they are, past every check; return the revision."""
        return put_flags(self._database_url, flags)

    def _found_http(self, address: str) -> None:
        self.http = address


@contextmanager
def serving(database_url: str, **settings: Any) -> Iterator[Serving]:
    """Control that runs until the block ends."""
    control = Serving(database_url, **settings)
    try:
        control.start()
        yield control
    finally:
        control.stop()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a client made of a flag."""

    value: Any
    reason: str
    variant: str | None
    error: str | None = None
    metadata: Mapping[str, Any] | None = None
    details: str | None = field(default=None, compare=False)


class Reader(Protocol):
    """A stock client, whatever its language."""

    def read(self, kind: str, key: str, default: Any, context: Mapping[str, Any]) -> Answer:
        """Evaluate a flag; `kind` is boolean, string, integer, float or object."""
        ...


class PythonReader:
    """The Python SDK with a stock provider."""

    def __init__(self, provider: FeatureProvider) -> None:
        self.domain = f"test-{next(_domains)}"
        self.events: queue.Queue[tuple[str, EventDetails]] = queue.Queue()
        self.client: OpenFeatureClient = api.get_client(self.domain)
        for event in ProviderEvent:
            self.client.add_handler(event, self._noter(event.value))
        api.set_provider_and_wait(provider, domain=self.domain)
        self.provider = provider

    def read(self, kind: str, key: str, default: Any, context: Mapping[str, Any]) -> Answer:
        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        subject = EvaluationContext(targeting_key=context.get("targetingKey"), attributes=attributes)
        details = getattr(self.client, f"get_{kind}_details")(key, default, subject)
        return Answer(
            value=details.value,
            reason=str(details.reason),
            variant=details.variant or None,
            error=None if details.error_code is None else str(details.error_code.value),
            metadata=details.flag_metadata,
            details=details.error_message,
        )

    def event(self, name: str) -> EventDetails:
        """The next event of that name; others before it are passed over."""
        while True:
            found, details = self.events.get(timeout=PATIENCE)
            if found == name:
                return details

    def close(self) -> None:
        self.provider.shutdown()

    def _noter(self, name: str) -> Callable[[EventDetails], None]:
        return lambda details: self.events.put((name, details))


def rpc_provider(control: Serving, **options: Any) -> FlagdProvider:
    chosen = {**QUICKLY, "cache": CacheType.DISABLED, **options}
    return FlagdProvider(host="127.0.0.1", port=control.port, resolver_type=ResolverType.RPC, **chosen)


def in_process_provider(control: Serving, **options: Any) -> FlagdProvider:
    chosen = {**QUICKLY, **options}
    return FlagdProvider(host="127.0.0.1", port=control.port, resolver_type=ResolverType.IN_PROCESS, **chosen)


def ofrep_provider(control: Serving, **options: Any) -> OFREPProvider:
    return OFREPProvider(control.url, **{"timeout": PATIENCE, **options})


PROVIDERS: Mapping[str, Callable[..., FeatureProvider]] = {
    "rpc": rpc_provider,
    "in-process": in_process_provider,
    "ofrep": ofrep_provider,
}


@contextmanager
def python_reader(provider: FeatureProvider) -> Iterator[PythonReader]:
    """A client that ends with the block."""
    reader = PythonReader(provider)
    try:
        yield reader
    finally:
        reader.close()
