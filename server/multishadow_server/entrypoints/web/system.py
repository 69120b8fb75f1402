"""The system itself: its processes, the way of captures, and what of them is lost on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core.sampling_share import COUNTER as SAMPLING
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import LogUnavailable
from multishadow_server.service import status
from multishadow_server.service.ports import LogSize
from multishadow_server.service.running_counts import running_counts
from multishadow_server.service.status import ProcessView

SECTION = "system"
ROLES = ("router", "worker", "control")
_DROPPED = "dropped."
# Shown in columns of their own, or apart from the rest.
_GAUGES = frozenset({"buffered", "buffered_bytes", "lag_ms", "partitions", "under_way", "flag_age_ms", SAMPLING})


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessLine:
    """A process with what it said last.

    Args:
        view: it.
        behind: revisions that a router has not heard of yet; 0 for all others, which act on the database itself.
        sampling: share of what flags sample that a router captures; None where it is no router.
        counters: since its start, by name, without zeros.
    """

    view: ProcessView
    behind: int
    sampling: float | None
    counters: tuple[tuple[str, int], ...]

    def gauge(self, name: str) -> int | None:
        """A figure of now, by its name; None where the process has none such."""
        return self.view.said.counters.get(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transit:
    """How captures fare between routers and reports, by the processes that speak.

    Args:
        captured: by routers, since each of them started.
        buffered, buffered_bytes: that routers hold now.
        dropped: copies that were never sent, by reason: of routers and of workers since each of them started.
        lag: seconds that the slowest worker is behind; None when none speaks.
        sampling: share of what flags sample that is captured, of the router that captures least; None without one.
    """

    captured: int
    buffered: int
    buffered_bytes: int
    dropped: tuple[tuple[str, int], ...]
    lag: float | None
    sampling: float | None


def process_lines(processes: Sequence[ProcessView], revision: int) -> tuple[ProcessLine, ...]:
    """The processes by role and name."""
    ordered = sorted(processes, key=lambda view: (_rank(view.said.role), view.said.instance))
    return tuple(
        ProcessLine(
            view=view,
            behind=max(0, revision - view.said.revision) if view.said.role == "router" else 0,
            sampling=view.said.counters.get(SAMPLING, 1000) / 1000 if view.said.role == "router" else None,
            counters=tuple((name, n) for name, n in sorted(view.said.counters.items()) if n and name not in _GAUGES),
        )
        for view in ordered
    )


def _rank(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)


def programs(processes: Sequence[ProcessView]) -> tuple[str, ...]:
    """Versions of the program that processes that speak run; those before they said so are left out."""
    return tuple(sorted({view.said.program for view in processes if view.alive and view.said.program}))


def transit(processes: Sequence[ProcessView]) -> Transit:
    """How captures fare, by what processes that speak said last."""
    speaking = [view.said for view in processes if view.alive]
    routers = [said.counters for said in speaking if said.role == "router"]
    workers = [said.counters for said in speaking if said.role == "worker"]
    dropped: Counter[str] = Counter()
    for counters in (*routers, *workers):
        dropped.update({name.removeprefix(_DROPPED): n for name, n in counters.items() if name.startswith(_DROPPED)})
    return Transit(
        captured=sum(counters.get("captured", 0) for counters in routers),
        buffered=sum(counters.get("buffered", 0) for counters in routers),
        buffered_bytes=sum(counters.get("buffered_bytes", 0) for counters in routers),
        dropped=tuple((reason, n) for reason, n in dropped.most_common() if n),
        lag=max((counters.get("lag_ms", 0) / 1000 for counters in workers), default=None),
        sampling=min((counters.get(SAMPLING, 1000) / 1000 for counters in routers), default=None),
    )


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/system`."""

    async def system(request: Request) -> Response:
        overview = await status.overview(desk.store, desk.backlog, clock=desk.clock)
        return pages.render(
            request,
            "system.html",
            section=SECTION,
            revision=overview.revision,
            warnings=desk.warnings(),
            programs=programs(overview.processes),
            processes=process_lines(overview.processes, overview.revision),
            speaking=Counter(view.said.role for view in overview.processes if view.alive),
            roles=ROLES,
            transit=transit(overview.processes),
            log=await _log_size(desk),
            running=await running_counts(desk.store, await desk.store.read(experiments=False)),
        )

    return [Route(f"{UI}/system", system)]


async def _log_size(desk: Desk) -> LogSize | None:
    try:
        return await desk.backlog.size()
    except LogUnavailable:
        return None
