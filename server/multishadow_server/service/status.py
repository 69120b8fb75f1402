"""How everything is: what is live, which processes run, how far workers are behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.core.sampling_share import COUNTER
from multishadow_server.errors import LogUnavailable
from multishadow_server.service import models
from multishadow_server.service.models import ModelView
from multishadow_server.service.ports import CaptureBacklog, ControlStore, ProcessStatus

QUIET_SECONDS = 10.0
"""A process that was not heard of for longer is taken for dead; they report themselves every second."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessView:
    """What a process last said, and whether it still speaks."""

    said: ProcessStatus
    alive: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """How everything is.

    Args:
        revision: the newest one.
        models: with what is live.
        processes: newest report first.
        waiting: messages of the capture log that no worker has finished; None when the log cannot be asked.
    """

    revision: int
    models: tuple[ModelView, ...]
    processes: tuple[ProcessView, ...]
    waiting: int | None


async def overview(store: ControlStore, backlog: CaptureBacklog, *, clock: Callable[[], float]) -> Overview:
    """Look at everything.

    Args:
        store: where configuration and processes are.
        backlog: the capture log; it may be away.
        clock: the time, in seconds since the Unix epoch.

    Raises:
        StoreUnavailable: the database is away.
    """
    configuration = await store.read(experiments=False)
    processes = await store.processes()
    now = clock()
    return Overview(
        revision=configuration.revision,
        models=tuple(
            models.view_of(configuration.models[name], configuration.flags) for name in sorted(configuration.models)
        ),
        processes=tuple(
            ProcessView(said=process, alive=now - process.seen_at <= QUIET_SECONDS) for process in processes
        ),
        waiting=await _waiting(backlog),
    )


async def sampling_share(store: ControlStore, *, clock: Callable[[], float]) -> float | None:
    """Share of what flags sample that routers capture now, of the one that captures least; None without a router.

    Raises:
        StoreUnavailable: the database is away.
    """
    now = clock()
    shares = [
        process.counters.get(COUNTER, 1000) / 1000
        for process in await store.processes()
        if process.role == "router" and now - process.seen_at <= QUIET_SECONDS
    ]
    return min(shares, default=None)


async def _waiting(backlog: CaptureBacklog) -> int | None:
    try:
        return await backlog.waiting()
    except LogUnavailable as error:
        _log.warning("the capture log cannot be asked: %s", error)
        return None
