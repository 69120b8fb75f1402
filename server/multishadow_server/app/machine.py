"""Everything on one machine, what prepares it, and the demonstration on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from rich.console import Console

from multishadow_client import Tls
from multishadow_server.adapters import health as health_check
from multishadow_server.adapters.deployment import Deployment, Endpoints
from multishadow_server.adapters.postgres import migration
from multishadow_server.service.ending import unless_set
from multishadow_server.settings import Settings


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
    yield f"http      {endpoints.http}"
    yield f"page      {'http' if settings.tls_cert is None else 'https'}://{endpoints.http}/ui/"
    yield f"database  {where if 'PostgreSQL' in endpoints.embedded else 'as given'}"
    yield f"log       {where if 'nats-server' in endpoints.embedded else 'as given'}"
    yield f"processes {processes}"
    yield f"Next: shadowctl apply -f model.yaml --server {endpoints.control}. Ctrl-C stops everything."


async def migrate(settings: Settings) -> None:
    """Bring the database to this program's schema. Raises StoreUnavailable."""
    assert settings.database_url is not None
    await asyncio.to_thread(migration.migrate, settings.database_url)


async def health(address: str, *, timeout: float, tls: Tls | None = None) -> None:  # noqa: ASYNC109  it travels with the call as its deadline
    """Ask a server whether it serves. Raises Unavailable when it does not."""
    await health_check.check(address, timeout=timeout, tls=tls)


async def demo(stop: asyncio.Event, *, keep: bool, seconds: float, console: Console) -> int:
    """Run the demonstration; return its exit code. Raises ModuleNotFoundError without the demo's extra."""
    from multishadow_server.demo import story  # noqa: PLC0415  scikit-learn is an extra that the roles do without

    return await story.tell(stop, keep=keep, seconds=seconds, console=console)
