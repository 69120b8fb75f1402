"""Rollouts asked for in few words, and routers' reports written as routers write them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio

from multishadow.v1 import rollouts_pb2 as pb
from multishadow.v1 import rollouts_pb2_grpc
from multishadow_server.adapters.postgres import PostgresLiveCounts, PostgresProcesses
from multishadow_server.core.latency import bin_of
from multishadow_server.core.live_counts import LiveCounts, Share
from multishadow_server.service.ports import ProcessStatus
from running_control import Control, control_address
from store_fixtures import opened
from waiting import until

WHY = "for a test"


class Rollouts(Control):
    """The control API with that of rollouts, asked in few words."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.rollouts: Any = rollouts_pb2_grpc.RolloutServiceStub(channel)

    async def roll_out(self, version: str = "A", *stages: float, **fields: Any) -> Any:
        """By default past all gates, with stages that end as soon as there is evidence."""
        values: dict[str, Any] = {"force": True, "reason": WHY, "dwell_seconds": 0.0, "actor": "ada"} | fields
        wish = pb.RolloutWish(model="spam", version=version, stages=stages or (10, 50, 100), **values)
        return (await self.rollouts.StartRollout(pb.StartRolloutRequest(wish=wish))).rollout

    async def plan(self, version: str = "A", **fields: Any) -> Any:
        wish = pb.RolloutWish(model="spam", version=version, **fields)
        return await self.rollouts.PlanRollout(pb.PlanRolloutRequest(wish=wish))

    async def seen(self, **fields: Any) -> Any:
        return await self.rollouts.GetRollout(pb.GetRolloutRequest(**fields))

    async def moves(self) -> list[tuple[str, float]]:
        """What happened to the latest rollout: (move, percent afterwards)."""
        return [(event.move, event.percent) for event in (await self.seen()).events]

    async def until_state(self, *states: str) -> Any:
        """Wait for the latest rollout to come into one of these states, and return it."""

        async def there() -> bool:
            return (await self.seen()).rollout.state in states

        await until(there)
        return await self.seen()

    async def until_percent(self, percent: float) -> Any:
        """Wait for the latest rollout to be at a stage, and return its view."""

        async def there() -> bool:
            return bool((await self.seen()).rollout.percent == percent)

        await until(there)
        return await self.seen()


@asynccontextmanager
async def rolling_out(database_url: str, **settings: Any) -> AsyncIterator[Rollouts]:
    """A control that looks at rollouts all the time, and a client of it."""
    async with (
        control_address(database_url, **({"rollout_interval": 0.02} | settings)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Rollouts(channel)


@dataclass(kw_only=True)
class RouterReports:
    """One router's reports, without the router."""

    database_url: str
    instance: str = "router-1"

    async def acknowledge(self, revision: int) -> None:
        """Say that it acts on a revision."""
        said = ProcessStatus(
            role="router", instance=self.instance, host="host-a", pid=7, started_at=1.0, revision=revision, counters={}
        )
        async with opened(self.database_url) as engine:
            await PostgresProcesses(engine).report(said)

    async def count(self, revision: int, **versions: LiveCounts) -> None:
        """Save what it counted by a revision since it began."""
        shares = {Share("spam", version, revision): counts for version, counts in versions.items()}
        async with opened(self.database_url) as engine:
            await PostgresLiveCounts(engine).save(self.instance, shares)


def served(n: int, *, failed: int = 0, seconds: float = 0.02) -> LiveCounts:
    """So many live requests, that took so long."""
    return LiveCounts(requests=n, failed=failed, latencies={str(bin_of(seconds)): n - failed})
