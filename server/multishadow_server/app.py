"""The composition root: the only place that knows every adapter. One coroutine per role.

Each role runs until `stop` is set, calls `ready` with its bound address (or its name) once it serves, and drains before
it returns.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from rich.console import Console

from multishadow_server.adapters import health as health_check
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.adapters.jetstream_backlog import JetStreamBacklog
from multishadow_server.adapters.postgres import migration
from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.processes import unless_set
from multishadow_server.adapters.version_probe import GrpcVersionProbe
from multishadow_server.entrypoints.control import ControlServer, ControlServicer
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service.housekeeping import Housekeeping
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.service.process_report import ProcessReport
from multishadow_server.settings import Settings

# --- control ------------------------------------------------------------------------------------------------------


async def control(settings: Settings, stop: asyncio.Event, *, ready: Callable[[str], None]) -> None:
    """Serve the control API until `stop`, and end experiments whose time box is over.

    It starts, and answers UNAVAILABLE, while the database is away; the log it can do without.

    Raises:
        InvalidInput: no database was named.
        FailedPrecondition: the address cannot be had.
    """
    if settings.database_url is None:
        raise InvalidInput("control needs MULTISHADOW_DATABASE_URL")
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        backlog = JetStreamBacklog(settings.nats_url, settings.log_name)
        stack.push_async_callback(backlog.aclose)
        store = PostgresControl(engine)
        housekeeping = Housekeeping(store, PostgresConfiguration(engine), clock=time.time)
        server = ControlServer(ControlServicer(store=store, probe=GrpcVersionProbe(), backlog=backlog))
        status = _control_status(settings, housekeeping)
        report = ProcessReport(PostgresProcesses(engine), status=status, interval=settings.report_interval)
        ready(await server.start(settings.control_listen))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(housekeeping.run(stop))
            tasks.create_task(report.run(stop))
            await stop.wait()
            await server.stop(settings.drain_seconds)


def _control_status(settings: Settings, housekeeping: Housekeeping) -> Callable[[], ProcessStatus]:
    started_at = time.time()

    def status() -> ProcessStatus:
        return ProcessStatus(
            role="control",
            instance=settings.instance,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=started_at,
            revision=housekeeping.revision,
            counters=housekeeping.counters(),
        )

    return status


# --- everything on one machine ------------------------------------------------------------------------------------


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    routers: int,
    workers: int,
    report: Callable[[str], None],
    log_level: str = "warning",
) -> None:
    """Run every role as a supervised child process until `stop`, with engines of its own where none are given.

    Raises:
        MultishadowError: something did not start; what had started is stopped again.
    """

    async def run() -> None:
        async with Deployment(
            settings, routers=routers, workers=workers, report=report, log_level=log_level
        ) as endpoints:
            for line in _announcement(endpoints, settings):
                report(line)
            await stop.wait()
            report("stopping: routers, workers, control, engines")

    await unless_set(stop, run())


def _announcement(endpoints: Endpoints, settings: Settings) -> Iterator[str]:
    where = f"embedded in {settings.data_dir}"
    processes = ", ".join(f"{name} {pid}" for name, pid in endpoints.processes.items())
    yield f"router    {endpoints.router}"
    yield f"control   {endpoints.control}"
    yield f"database  {where if 'PostgreSQL' in endpoints.embedded else 'as given'}"
    yield f"log       {where if 'nats-server' in endpoints.embedded else 'as given'}"
    yield f"processes {processes}"
    yield f"Next: shadowctl --server {endpoints.control} apply -f model.yaml. Ctrl-C stops everything."


async def migrate(settings: Settings) -> None:
    """Bring the database to this program's schema. Raises StoreUnavailable."""
    assert settings.database_url is not None
    await asyncio.to_thread(migration.migrate, settings.database_url)


async def health(address: str, *, timeout: float) -> None:  # noqa: ASYNC109  it travels with the call as its deadline
    """Ask a server whether it serves. Raises Unavailable when it does not."""
    await health_check.check(address, timeout=timeout)


# --- the demonstration --------------------------------------------------------------------------------------------


async def demo(stop: asyncio.Event, *, keep: bool, seconds: float, console: Console) -> int:
    """Run the demonstration; return its exit code."""
    with _demo_extra():
        from multishadow_server.demo import story  # noqa: PLC0415  scikit-learn is an extra that roles do without
    return await story.tell(stop, keep=keep, seconds=seconds, console=console)


async def version_server(
    model: str,
    version: str,
    listen: str,
    stop: asyncio.Event,
    *,
    ready: Callable[[str], None],
    report: Callable[[str], None],
) -> None:
    """Train and serve one version of a demo model."""
    with _demo_extra():
        from multishadow_server.demo import version_server as server  # noqa: PLC0415  as above
    await server.serve(model, version, listen, stop, ready=ready, report=report)


async def traffic(
    model: str, router_address: str, stop: asyncio.Event, *, rate: float, seconds: float, report: Callable[[str], None]
) -> int:
    """Send samples of a demo model to a router; the exit code is 1 when no call was answered."""
    with _demo_extra():
        from multishadow_server.demo import catalogue  # noqa: PLC0415  as above
        from multishadow_server.demo import traffic as callers  # noqa: PLC0415  as above
    samples = catalogue.model_named(model).samples()
    tally = await callers.run(samples, router_address, stop, rate=rate, seconds=seconds, report=report)
    return 0 if tally.answers else 1


@contextmanager
def _demo_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"the demo needs {error.name}, which comes with its extra: pip install 'multishadow[demo]'"
        ) from error
