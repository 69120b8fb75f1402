"""Roles that are asked to end while they are busy: nobody notices, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

import routers
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.settings import Settings
from running import Running, running
from shadowed_traffic import LIVE, MODEL, Counts, append, begin_experiment, staged, working
from store_fixtures import rows
from version_servers import answering, gated, serving
from waiting import PATIENCE, until

DELAY = 2.0
# https://grpc.io/docs/guides/health-checking/: who says NOT_SERVING is called no more.
BALANCED = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
# Three interpreters at once, on a machine that may be busy.
START_SECONDS = 120.0


@asynccontextmanager
async def started(environment: Mapping[str, str], *commands: tuple[str, ...]) -> AsyncIterator[list[Running]]:
    """Roles as processes of their own, all of them ready."""
    async with AsyncExitStack() as stack:
        roles = [stack.enter_context(running(*command, environment=environment)) for command in commands]
        for role in roles:
            await asyncio.to_thread(role.line_with, " ready on ", within=START_SECONDS)
        yield roles


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    return {
        "MULTISHADOW_DATABASE_URL": str(settings.database_url),
        "MULTISHADOW_NATS_URL": str(settings.nats_url),
        "MULTISHADOW_LOG_NAME": settings.log_name,
        "MULTISHADOW_WORKER_LINGER": "0.05",
        **more,
    }


async def ended_in_order(role: Running) -> float:
    """Ask it to end; seconds until it has. What it said is shown if it did not end well."""
    asked = time.monotonic()
    role.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(role.ended)
    assert code == 0, role.output
    return time.monotonic() - asked


class Callers:
    """Calls under way all the time, balanced by gRPC's own clients over the routers that say that they serve."""

    def __init__(self, *addresses: str) -> None:
        self._target = "ipv4:" + ",".join(addresses)
        self._stop = asyncio.Event()
        self.answers = 0
        self.errors: list[grpc.aio.AioRpcError] = []

    async def run(self) -> None:
        """Call until `stop`."""
        async with asyncio.TaskGroup() as callers:
            for number in range(8):
                callers.create_task(self._call(number))

    def stop(self) -> None:
        """No further calls; those under way finish."""
        self._stop.set()

    async def _call(self, number: int) -> None:
        options = [("grpc.service_config", json.dumps(BALANCED)), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._target, options=options) as channel:
            caller = routers.Caller(channel, self._target)
            calls = 0
            while not self._stop.is_set():
                calls += 1
                request = routers.a_request(request_id=f"{number}-{calls}", text=f"{number}-{calls}")
                try:
                    await caller.predict(request)
                except grpc.aio.AioRpcError as error:
                    self.errors.append(error)
                else:
                    self.answers += 1


async def test_routers_and_workers_that_end_under_load_lose_nothing_and_no_caller_notices(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name, worker_linger=0.05)
    async with AsyncExitStack() as stack:
        live, shadow = [await stack.enter_async_context(serving(answering())) for _ in range(2)]
        epoch = await begin_experiment(database_url, {LIVE: live.address, "A": shadow.address})
        for name, claim in ((LIVE, Claim.LIVE), ("A", Claim.SHADOW)):
            await routers.set_flag(database_url, f"{MODEL}.{name}", claim_definition(MODEL, claim))
        counts = Counts(database_url, epoch)
        stack.push_async_callback(counts.aclose)
        router, worker = ("router", "--listen", "127.0.0.1:0"), ("worker",)
        environment = environment_of(settings, MULTISHADOW_DRAIN_DELAY=str(DELAY))
        roles = await stack.enter_async_context(started(environment, router, router, worker))
        await stack.enter_async_context(working(settings))
        callers = Callers(address_of(roles[0]), address_of(roles[1]))
        calling = asyncio.create_task(callers.run())
        try:
            await until(lambda: callers.answers > 100)
            assert await ended_in_order(roles[0]) >= DELAY
            await ended_in_order(roles[2])
            answered = callers.answers
            await until(lambda: callers.answers > answered + 100)
        finally:
            callers.stop()
            await calling
        await ended_in_order(roles[1])
        await counts.reach(callers.answers)
        assert callers.errors == []
        assert await counts.by_version() == {"A": callers.answers}


async def test_a_role_that_leaves_says_so_first_and_a_second_signal_ends_it_at_once(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name)
    environment = environment_of(settings, MULTISHADOW_DRAIN_DELAY="6", MULTISHADOW_DRAIN_SECONDS="0.1")
    router = ("router", "--listen", "127.0.0.1:0")
    async with serving(gated(asyncio.Event())) as hung, AsyncExitStack() as stack:
        # Before the routers begin: one that has not heard of the model yet would refuse the request.
        await routers.register(database_url, {LIVE: hung.address}, {LIVE: Claim.LIVE})
        first, second = await stack.enter_async_context(started(environment, router, router))
        async with routers.calling(address_of(first)) as caller, routers.calling(address_of(second)) as other:
            under_way = caller.begin(routers.a_request())
            await until(lambda: hung.under_way)
            ending = asyncio.create_task(ended_in_order(first))
            await _leaves(caller)
            # The call would go on for ever; the rest is what a busy machine may take.
            assert await ending < 6 + 0.1 + PATIENCE, "it waits for the call no longer than that"
            assert (await under_way.code()) is grpc.StatusCode.UNAVAILABLE
            second.process.send_signal(signal.SIGTERM)
            await _leaves(other)
            second.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(second.ended) == -signal.SIGTERM


def address_of(role: Running) -> str:
    return role.lines[-1].split(" ready on ")[1].strip()


async def _leaves(caller: routers.Caller) -> None:
    """Wait until it says so; it still answers then."""
    health = health_pb2_grpc.HealthStub(caller.channel)

    async def leaving() -> bool:
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        return bool(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING)

    await until(leaving)


async def test_a_worker_that_ends_gives_each_partition_back_as_soon_as_it_is_done_with_it(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=8, worker_linger=0.05,
        report_interval=0.05, drain_seconds=600.0,
    )  # fmt: skip
    gate = asyncio.Event()
    async with staged(settings, {"A": gated(gate)}, call_seconds=600) as stage, working(settings) as stop:
        held = stage.captures(1, prefix="held")
        await append(stage.log, held)
        await until(lambda: stage.servers["A"].under_way == 1)
        async with working(settings, instance="worker-2"):
            stop.set()
            # All but the one whose capture is under way.
            await until(lambda: stage.partitions_of("worker-2", equals=7))
            assert (await stage.counts.outcomes()).total() == 0
            gate.set()
            await until(lambda: stage.partitions_of("worker-2", equals=8))
            await until(stage.drained)
        assert await stage.counts.by_version() == {"A": 1}
    assert rows(database_url, "SELECT count(*) FROM process") == [(0,)]
