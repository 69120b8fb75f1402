"""Whether routers act on a revision, and whether the version that it made live answers callers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.errors import InvalidInput
from multishadow_server.service import names
from multishadow_server.service.ports import ControlStore, ProcessStatus, RolloutStore
from multishadow_server.service.status import QUIET_SECONDS

# A router that nobody heard of for longer is taken for gone. Until then it may have lost the database and still answer.
GONE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterView:
    """What a router last said, how long ago, and whether that is longer than it should be."""

    said: ProcessStatus
    age: float
    silent: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    """Who acts on a revision.

    Args:
        revision: which.
        routers: that do.
        stragglers: routers that act on an older one as far as anybody knows; a silent one cannot be asked.
    """

    revision: int
    routers: tuple[RouterView, ...]
    stragglers: tuple[RouterView, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """Live requests by the version that the flags chose for them, from a revision on."""

    model: str
    revision: int
    counts: Mapping[str, LiveCounts]


async def acknowledged(store: ControlStore, revision: int, *, now: float) -> Acknowledged:
    """Which routers act on `revision` or a later one.

    Args:
        store: where processes report themselves: at once, when their revision changes.
        revision: to be acted on.
        now: seconds since the Unix epoch, by the database's clock.

    Raises:
        StoreUnavailable: the database is away.
    """
    routers = [
        RouterView(said=process, age=max(0.0, now - process.seen_at), silent=now - process.seen_at > QUIET_SECONDS)
        for process in await store.processes()
        if process.role == "router" and now - process.seen_at <= GONE_SECONDS
    ]
    behind = [router for router in routers if router.said.revision < revision or router.silent]
    return Acknowledged(
        revision=revision,
        routers=tuple(router for router in routers if router not in behind),
        stragglers=tuple(behind),
    )


async def serving(store: ControlStore, records: RolloutStore, *, model: str, revision: int) -> Serving:
    """Who was chosen for live requests, and how they fared, by `revision` and later ones.

    Raises:
        InvalidInput: the revision is none, or the model must be named.
        NotFound: no such model.
        StoreUnavailable: the database is away.
    """
    if revision < 1:
        raise InvalidInput(f"revision: {revision} is none; `promote` and `rollback` answer with the one they made")
    owner = names.only_model(await store.read(experiments=False), model)
    counts = await records.stage_counts(owner.name, first_revision=revision, stage_revision=revision)
    return Serving(model=owner.name, revision=revision, counts=counts.stage)


def names_of(routers: Collection[RouterView]) -> tuple[str, ...]:
    """Instances with their hosts."""
    return tuple(f"{router.said.instance} on {router.said.host}" for router in routers)
