"""All roles on one machine: engines where none are given, and every role as a supervised child process."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.postgres.migration import migrate
from multishadow_server.adapters.processes import Child, Program, Supervisor, multishadow
from multishadow_server.core import log_space
from multishadow_server.errors import EngineFailed, FailedPrecondition
from multishadow_server.service.ending import end
from multishadow_server.settings import Settings

ENGINE_CHECK_SECONDS = 1.0
# What a role needs beyond the calls under way: flushing, giving back leases, closing connections.
DRAIN_MARGIN_SECONDS = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """Where a running deployment is found.

    Args:
        router: address that callers and all router processes share.
        control: address of control, for `shadowctl`.
        http: address of control's HTTP.
        database_url: PostgreSQL in use.
        nats_url: NATS server in use.
        embedded: names of the engines that were started for it.
        processes: process id by role name, e.g. {"router-1": 4711}.
    """

    router: str
    control: str
    http: str
    database_url: str
    nats_url: str
    embedded: tuple[str, ...]
    processes: Mapping[str, int]


class Deployment:
    """Routers, workers and one control, with their engines. Entering the block starts it, leaving it ends it in order.

    Args:
        settings: of every role. Without a database or NATS address that engine is embedded in `settings.data_dir`.
        routers: how many router processes share the address.
        workers: how many worker processes share the log.
        report: told in a line what happens.
        log_level: how much the roles' logs say, on this process's standard error.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        routers: int,
        workers: int,
        report: Callable[[str], None],
        log_level: str = "info",
    ) -> None:
        self._settings = settings
        self._routers = routers
        self._workers = workers
        self._report = report
        self._log_level = log_level
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Endpoints:
        """Start everything.

        Raises:
            EngineFailed: an engine or a role did not start.
            FailedPrecondition: an address, or the data folder, is taken.
            StoreUnavailable: the database cannot be reached.
        """
        try:
            return await self._start()
        except BaseException:
            await self._resources.aclose()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def _start(self) -> Endpoints:
        for option in ("router", "control", "http"):
            refuse_taken(getattr(self._settings, f"{option}_listen"), option=f"--{option}-listen")
        settings, embedded = await self._start_engines()
        assert settings.database_url is not None
        assert settings.nats_url is not None
        await asyncio.to_thread(migrate, settings.database_url)
        roles = await self._start_roles(settings)
        return Endpoints(
            router=roles["router-1"].address,
            control=roles["control"].address,
            http=roles["control"].http_address,
            database_url=settings.database_url,
            nats_url=settings.nats_url,
            embedded=embedded,
            processes={name: child.pid for name, child in roles.items() if child.pid is not None},
        )

    async def _start_engines(self) -> tuple[Settings, tuple[str, ...]]:
        """Start the engines whose addresses are not given; the settings then hold theirs."""
        settings = self._settings
        embedded: dict[str, EmbeddedPostgres | EmbeddedNats] = {}
        addresses: dict[str, str | int] = {}
        if settings.database_url is None or settings.nats_url is None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            self._resources.enter_context(folder_lock(settings.data_dir))
        # Started from this thread: nats-server ends with the thread that began it, and a pool's thread may end early.
        if settings.database_url is None:
            folder = settings.data_dir / "postgres"
            postgres = EmbeddedPostgres(folder)
            self._resources.enter_context(ends_with_us(folder))
            self._resources.callback(postgres.stop)
            addresses["database_url"] = postgres.start()
            embedded["PostgreSQL"] = postgres
        if settings.nats_url is None:
            nats, addresses["log_max_bytes"] = self._sized_log(settings)
            self._resources.callback(nats.stop)
            addresses["nats_url"] = nats.start()
            embedded["nats-server"] = nats
        if embedded:
            watch = asyncio.create_task(self._keep_running(embedded))
            self._resources.push_async_callback(end, watch)
        kept = {"configuration_copy": settings.configuration_copy or settings.data_dir / "configuration.json"}
        return settings.model_copy(update=kept | addresses), tuple(embedded)

    def _sized_log(self, settings: Settings) -> tuple[EmbeddedNats, int]:
        """A nats-server that leaves the disk room, and the log's largest size in bytes. Raises FailedPrecondition."""
        folder = settings.data_dir / "nats"
        size = log_space.fitting(
            settings.log_max_bytes,
            free=shutil.disk_usage(settings.data_dir).free,
            held=EmbeddedNats(folder).held_bytes,
            folder=str(settings.data_dir),
        )
        if size < settings.log_max_bytes:
            self._report(
                f"the capture log may have {size / log_space.MEBIBYTE:,.0f} MiB, not MULTISHADOW_LOG_MAX_BYTES "
                f"({settings.log_max_bytes / log_space.MEBIBYTE:,.0f} MiB): the disk has no more to spare"
            )
        store_bytes = size + log_space.STORE_MARGIN_BYTES
        return EmbeddedNats(folder, key=settings.log_key, store_bytes=store_bytes), size

    async def _start_roles(self, settings: Settings) -> dict[str, Child]:
        longest = settings.drain_delay + settings.drain_seconds + DRAIN_MARGIN_SECONDS
        supervisor = Supervisor(report=self._report, drain_seconds=longest)
        await self._resources.enter_async_context(supervisor)
        children: dict[str, Child] = {}
        # Called last to first: routers are the first to drain, so that what they captured still finds its way.
        for role in ("control", "worker", "router"):
            self._resources.push_async_callback(_stop_role, supervisor, children, role)
        names = ["router-1", *(f"worker-{number + 1}" for number in range(self._workers)), "control"]
        programs = [self._program(name, settings) for name in names]
        for child in await supervisor.start_together(programs):
            children[child.program.name] = child
        # Ports that were left to chance are chosen now: other routers share them, and whoever restarts keeps them.
        control = children["control"]
        chosen = {
            "router_listen": children["router-1"].address,
            "control_listen": control.address,
            "http_listen": control.http_address,
        }
        bound = settings.model_copy(update=chosen)
        for child in children.values():
            child.program = self._program(child.program.name, bound)
        others = [self._program(f"router-{number + 1}", bound) for number in range(1, self._routers)]
        for child in await supervisor.start_together(others):
            children[child.program.name] = child
        return children

    def _program(self, name: str, settings: Settings) -> Program:
        role, _, number = name.partition("-")
        command = multishadow(role, "--log-level", self._log_level)
        if settings.metrics_listen is not None and number:
            place = int(number) - 1 + (self._routers if role == "worker" else 0)
            settings = settings.model_copy(update={"metrics_listen": counted_up(settings.metrics_listen, place)})
        return Program(name=name, command=command, environment=environment_of(settings))

    async def _keep_running(self, engines: Mapping[str, EmbeddedPostgres | EmbeddedNats]) -> None:
        while True:
            await asyncio.sleep(ENGINE_CHECK_SECONDS)
            for name, engine in engines.items():
                if not engine.is_running():
                    self._report(f"the embedded {name} ended unasked; it starts again")
                    self._try_again(engine)

    def _try_again(self, engine: EmbeddedPostgres | EmbeddedNats) -> None:
        try:
            engine.start()
        except EngineFailed as error:
            self._report(str(error))


def counted_up(address: str, place: int) -> str:
    """The address with its port counted up: processes of one machine share nothing that is asked of each.

    Port 0 takes a free one everywhere; what is no address is left to whoever listens on it to refuse.
    """
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + place}" if port.isdigit() and int(port) else address


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that give another process these settings.

    Those that were left at their defaults are not named, and each process has an instance name of its own.
    """
    chosen = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude={"instance"})
    return {f"MULTISHADOW_{name.upper()}": str(value) for name, value in chosen.items()}


def refuse_taken(address: str, *, option: str) -> None:
    """Refuse an address that another program listens on.

    Routers share their port (SO_REUSEPORT), so without this a forgotten one would silently take half of the calls.

    Raises:
        FailedPrecondition: it is taken, or cannot be bound.
    """
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or port == "0" or not port.isdigit():
        return
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except OSError as error:
        raise FailedPrecondition(
            f"cannot listen on {address}: {error.strerror or error}. Another program may have it; "
            f"choose another address with {option} (port 0 takes a free one)"
        ) from error


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a data folder alone.

    Raises:
        FailedPrecondition: another process of this machine holds it.
    """
    with (folder / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise FailedPrecondition(
                f"the folder {folder} is in use by process {lock.read().strip() or 'unknown'}: stop it, or choose "
                "another folder with --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def ends_with_us(postgres_folder: Path) -> Iterator[None]:
    """Stop the PostgreSQL of a data folder when this process ends, even by SIGKILL.

    Its starter makes it a daemon, which no parent-death signal reaches. So a shell holds the reading end of a pipe, and
    asks for a fast shutdown (SIGINT) when the other end closes. A server that was stopped in order has no pid file.
    """
    pid_file = postgres_folder.resolve() / "postmaster.pid"
    guard = subprocess.Popen(  # noqa: S603  the script is ours, its argument a path
        ["/bin/sh", "-c", 'read -r _; [ ! -f "$0" ] || kill -INT "$(head -n 1 "$0")"', pid_file],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()


async def _stop_role(supervisor: Supervisor, children: Mapping[str, Child], role: str) -> None:
    await supervisor.stop(child for name, child in children.items() if name.partition("-")[0] == role)
