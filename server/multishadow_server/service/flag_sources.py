"""Whether anybody reads the flags that are written here.

Routers may read flags from another source (MULTISHADOW_FLAG_PROVIDER). For them, ours are only the books that
experiments are kept by: what is written here changes nothing for their callers, and whoever writes has to be told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multishadow_server.errors import FailedPrecondition, StoreUnavailable
from multishadow_server.service import names
from multishadow_server.service.ports import ControlStore
from multishadow_server.service.status import QUIET_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Readers:
    """The routers that were heard of lately.

    Args:
        here: how many read the flags that are written here.
        elsewhere: those that do not, each with its source, e.g. "router-1 (FlagdProvider)".
    """

    here: int
    elsewhere: tuple[str, ...]

    def __str__(self) -> str:
        few = len(self.elsewhere) == 1
        where = "another source" if few else "other sources"
        return f"{names.listed(self.elsewhere)} read{'s' if few else ''} flags from {where}"


async def readers(store: ControlStore, *, clock: Callable[[], float]) -> Readers:
    """Who reads flags, and where. Raises StoreUnavailable."""
    now = clock()
    routers = [
        process
        for process in await store.processes()
        if process.role == "router" and now - process.seen_at <= QUIET_SECONDS
    ]
    elsewhere = sorted(f"{router.instance} ({router.flag_source})" for router in routers if router.flag_source)
    return Readers(here=len(routers) - len(elsewhere), elsewhere=tuple(elsewhere))


async def check_promotion(store: ControlStore, flag: str, *, clock: Callable[[], float]) -> None:
    """Refuse to promote where some router would never hear of it.

    Raises:
        FailedPrecondition: some router reads its flags elsewhere.
        StoreUnavailable: the database is away.
    """
    found = await readers(store, clock=clock)
    if found.elsewhere:
        raise FailedPrecondition(
            f"{found}, so flipping {flag} here would not make it live for their callers, and nothing was changed. Set "
            "its flag to `live` at that source instead. To flip it here nevertheless (for routers that do read here, "
            "or to keep the books): `shadowctl promote --force --reason TEXT`"
        )


async def check_rollback(store: ControlStore, *, clock: Callable[[], float]) -> None:
    """Refuse a rollback that nobody would notice; what cannot be asked must not hold one up.

    Raises:
        FailedPrecondition: every router reads its flags elsewhere.
    """
    try:
        found = await readers(store, clock=clock)
    except StoreUnavailable:
        return
    if found.elsewhere and not found.here:
        raise FailedPrecondition(
            f"{found}, and no router reads them here: a rollback here would change nothing for callers. Set the flag "
            "of the version that must not be live to `off` or `shadow` at that source"
        )


async def warnings(store: ControlStore, *, clock: Callable[[], float]) -> list[str]:
    """What whoever has just written a flag should know; empty when every router reads it."""
    try:
        found = await readers(store, clock=clock)
    except StoreUnavailable:
        return []
    if not found.elsewhere:
        return []
    warning = (
        f"{found}: what was written here changes nothing for their callers until the same is said there. Experiments "
        "go by the flags here, so keep the two alike"
    )
    return [warning]
