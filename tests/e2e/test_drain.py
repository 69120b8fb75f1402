"""Roles that are asked to end while they are busy: nobody notices, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from test_promotion_under_load import Callers

import routers
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.settings import Settings
from running import Running, running
from shadowed_traffic import LIVE, MODEL, Counts, Stage, append, begin_experiment, staged, working
from store_fixtures import rows
from version_servers import answering, gated, serving
from waiting import until

DELAY = 0.5


@asynccontextmanager
async def started(environment: Mapping[str, str], *commands: tuple[str, ...]) -> AsyncIterator[list[Running]]:
    """Roles as processes of their own, all of them ready."""
    async with AsyncExitStack() as stack:
        roles = [stack.enter_context(running(*command, environment=environment)) for command in commands]
        for role in roles:
            await asyncio.to_thread(role.line_with, " ready on ")
        yield roles


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    return {
        "MULTISHADOW_DATABASE_URL": str(settings.database_url),
        "MULTISHADOW_NATS_URL": str(settings.nats_url),
        "MULTISHADOW_LOG_NAME": settings.log_name,
        "MULTISHADOW_WORKER_LINGER": "0.05",
        **more,
    }


async def ended_in_order(role: Running, *, within: float = 30.0) -> float:
    """Ask it to end; seconds until it has. What it said is shown if it did not end well."""
    asked = time.monotonic()
    role.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(role.ended, within=within)
    assert code == 0, role.output
    return time.monotonic() - asked


async def test_routers_and_workers_that_end_under_load_lose_nothing_and_no_caller_notices(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        live, shadow = [await stack.enter_async_context(serving(answering())) for _ in range(2)]
        epoch = await begin_experiment(database_url, {LIVE: live.address, "A": shadow.address})
        for name, claim in ((LIVE, Claim.LIVE), ("A", Claim.SHADOW)):
            await routers.set_flag(database_url, f"{MODEL}.{name}", claim_definition(MODEL, claim))
        counts = Counts(database_url, epoch)
        stack.push_async_callback(counts.aclose)
        router, worker = ("router", "--listen", address), ("worker",)
        environment = environment_of(settings, MULTISHADOW_DRAIN_DELAY=str(DELAY))
        roles = await stack.enter_async_context(started(environment, router, router, worker, worker))
        callers = Callers(address)
        calling = asyncio.create_task(callers.run())
        try:
            await until(lambda: len(callers.answers) > 200)
            assert await ended_in_order(roles[0]) >= DELAY
            await ended_in_order(roles[2])
            answered = len(callers.answers)
            await until(lambda: len(callers.answers) > answered + 200)
        finally:
            callers.stop()
            await calling
        await ended_in_order(roles[1])
        await counts.reach(len(callers.answers), within=60)
        assert callers.errors == []
        assert await counts.by_version() == {"A": len(callers.answers)}


async def test_a_role_that_leaves_says_so_first_and_a_second_signal_ends_it_at_once(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name)
    environment = environment_of(settings, MULTISHADOW_DRAIN_DELAY="60")
    async with started(environment, ("router", "--listen", "127.0.0.1:0")) as (router,):
        async with grpc.aio.insecure_channel(router.lines[-1].split(" ready on ")[1].strip()) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert await _status(health) == health_pb2.HealthCheckResponse.SERVING
            router.process.send_signal(signal.SIGTERM)

            async def leaving() -> bool:
                return await _status(health) == int(health_pb2.HealthCheckResponse.NOT_SERVING)

            await until(leaving)
        router.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(router.ended, within=5) == -signal.SIGTERM


async def _status(health: health_pb2_grpc.HealthStub) -> int:
    return int((await health.Check(health_pb2.HealthCheckRequest(), timeout=5)).status)


async def test_a_role_that_hangs_outlives_its_time_to_drain_by_five_seconds_at_most(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name)
    environment = environment_of(settings, MULTISHADOW_DRAIN_SECONDS="0.1")
    async with (
        serving(gated(asyncio.Event())) as hung,
        started(environment, ("router", "--listen", "127.0.0.1:0")) as (router,),
    ):
        await routers.register(database_url, {LIVE: hung.address}, {LIVE: Claim.LIVE})
        async with routers.calling(router.lines[-1].split(" ready on ")[1].strip()) as caller:
            under_way = caller.begin(routers.a_request())
            await until(lambda: hung.under_way)
            assert await ended_in_order(router) < 0.1 + 5
            assert (await under_way.code()) is grpc.StatusCode.UNAVAILABLE


async def _held_by(stage: Stage, instance: str) -> int:
    found = {process.instance: process for process in await stage.counts.processes()}
    return found[instance].counters.get("partitions", 0) if instance in found else 0


async def test_a_worker_that_ends_gives_each_partition_back_as_soon_as_it_is_done_with_it(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=8, worker_linger=0.05,
        report_interval=0.05, drain_seconds=20.0,
    )  # fmt: skip
    gate = asyncio.Event()
    async with staged(settings, {"A": gated(gate)}, call_seconds=30) as stage, working(settings) as stop:
        held = stage.captures(1, prefix="held")
        await append(stage.log, held)
        await until(lambda: stage.servers["A"].under_way == 1)
        async with working(settings, instance="worker-2"):
            stop.set()
            began = time.monotonic()
            # All but the one whose capture is under way.
            await until(lambda: stage.partitions_of("worker-2", equals=7), within=10)
            assert time.monotonic() - began < 5, "it did not wait for the hung one"
            assert (await stage.counts.outcomes()).total() == 0
            gate.set()
            await until(lambda: stage.partitions_of("worker-2", equals=8), within=10)
            await until(stage.drained)
        assert await stage.counts.by_version() == {"A": 1}
    assert rows(database_url, "SELECT count(*) FROM process") == [(0,)]
