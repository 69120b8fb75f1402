"""Whatever is slow, hung or dead behind a router, its callers do not notice; afterwards the counts are exact."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import grpc
import nats
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client

import routers
from multishadow_server.adapters.embedded import EmbeddedNats, EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, migrate, open_engine
from multishadow_server.app import router as router_role
from multishadow_server.core.routing import Claim
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.settings import Settings
from routers import Logged, a_request, calling, register, saying, version
from running import Running, running
from waiting import PATIENCE, until

SAMPLED = {"base": Claim.LIVE, "A": Claim.SHADOW}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A nats-server that this test may stop, freeze and kill."""
    engine = EmbeddedNats(tmp_path / "nats")
    engine.start()
    yield engine
    with suppress(Exception):
        os.kill(engine.pid, signal.SIGCONT)
    engine.stop()


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that this test may stop."""
    engine = EmbeddedPostgres(tmp_path_factory.mktemp("own-postgres") / "data")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def connected(nats_url: str, stack: AsyncExitStack) -> Client:
    client = await nats.connect(nats_url, reconnect_time_wait=0.05, max_reconnect_attempts=-1, error_cb=_ignore)
    stack.push_async_callback(client.close)
    return client


async def _ignore(_error: Exception) -> None:
    """Outages are part of the tests."""


async def status_of(database_url: str, role: str) -> list[ProcessStatus]:
    engine = open_engine(database_url)
    try:
        return [status for status in await PostgresControl(engine).processes() if status.role == role]
    finally:
        await engine.dispose()


async def counter(database_url: str, name: str) -> int:
    return sum(status.counters.get(name, 0) for status in await status_of(database_url, "router"))


# --- the log ------------------------------------------------------------------------------------------------------


async def test_a_dead_log_costs_captures_over_the_bound_and_nothing_else(
    database_url: str, own_nats: EmbeddedNats, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    own_nats.kill()
    # It does not look again how full its buffer is: sampling less would leave fewer to drop.
    blind = {"buffer_captures": 20, "sampling_interval": 600.0}
    async with routers.router(database_url, own_nats.url, log_name, **blind) as caller:
        replies = await asyncio.gather(*(caller.predict(a_request(request_id=f"r-{i}")) for i in range(50)))
        assert {reply.response for reply in replies} == {b"x"}
        await until(lambda: _is(counter(database_url, "dropped.buffer_full"), 30))
        assert await counter(database_url, "buffered") == 20
        logged = Logged(await connected(own_nats.start(), stack), log_name)
        await until(lambda: _is(counter(database_url, "captured"), 20))
    assert len(await logged.captures(20)) == 20
    drops = await logged.drops()
    assert sum(drop.count for drop in drops) == 30
    assert {(drop.model, drop.live, drop.shadows, drop.reason) for drop in drops} == {
        ("spam", "base", ("A",), "buffer_full")
    }


async def _is(read: Awaitable[int], wanted: int) -> bool:
    return await read == wanted


async def test_a_log_that_hangs_holds_nobody_up(
    database_url: str, own_nats: EmbeddedNats, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    logged = Logged(await connected(own_nats.url, stack), log_name)
    async with routers.router(database_url, own_nats.url, log_name, drain_seconds=30.0) as caller:
        await caller.predict(a_request(request_id="before"))
        await logged.captures(1)
        os.kill(own_nats.pid, signal.SIGSTOP)
        for i in range(20):
            assert (await caller.predict(a_request(request_id=f"r-{i}"), timeout=4.0)).response == b"x"
        os.kill(own_nats.pid, signal.SIGCONT)
    captures = await logged.captures(21)
    assert sorted(capture.request_id for capture in captures) == sorted(["before", *(f"r-{i}" for i in range(20))])


async def test_a_full_log_drops_the_newest_and_says_so_when_there_is_room_again(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    client = await connected(nats_url, stack)
    logged = Logged(client, log_name)
    small = {"log_max_bytes": 20_000, "buffer_captures": 10, "flush_interval": 0.01}
    async with routers.router(database_url, nats_url, log_name, **small) as caller:
        answered = 0
        while not await counter(database_url, "dropped.log_full"):
            # Many at once: the router also begins to sample less, and then it takes ever more to fill anything.
            answered += len(await asyncio.gather(*(caller.predict(a_request(text="x" * 500)) for _ in range(100))))
            assert answered < 10_000
        js = client.jetstream()
        await js.update_stream((await js.stream_info(log_name)).config, max_bytes=10_000_000)
        await until(lambda: _is(counter(database_url, "buffered"), 0))
        passed_over = await counter(database_url, "sampling.passed_over")
    batches = await logged.batches()
    dropped = sum(drop.count for batch in batches for drop in batch.drops)
    assert dropped > 0
    assert {drop.reason for batch in batches for drop in batch.drops} <= {"log_full", "buffer_full"}
    assert sum(len(batch.captures) for batch in batches) + dropped + passed_over == answered


async def test_a_stream_of_another_kind_is_left_alone(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    js = (await connected(nats_url, stack)).jetstream()
    await js.add_stream(name=log_name, subjects=[f"{log_name}.*"])
    async with routers.router(database_url, nats_url, log_name, drain_seconds=0.2) as caller:
        assert (await caller.predict(a_request())).response == b"x"
        await until(lambda: _is(counter(database_url, "buffered"), 1))
    assert (await js.stream_info(log_name)).state.messages == 0


# --- the store ----------------------------------------------------------------------------------------------------


async def test_a_lost_flag_source_keeps_the_live_version_and_stops_shadowing(
    own_postgres: EmbeddedPostgres, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    database_url = own_postgres.create_database("lost")
    await asyncio.to_thread(migrate, database_url)
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    logged = Logged(await connected(nats_url, stack), log_name)
    async with routers.router(database_url, nats_url, log_name, flag_stale_after=1.0) as caller:
        await until(lambda: _samples(caller, logged, "fresh"))
        # Called from before the loss on: on a busy machine a stop may take longer than flags stay fresh.
        sent, lost_at = 0, math.inf

        async def called_for_three_seconds() -> bool:
            nonlocal sent
            reply = await caller.predict(a_request(request_id=f"lost-{sent}"))
            assert (reply.response, reply.trailing["x-multishadow-version"]) == (b"x", "base")
            sent += 1
            return time.monotonic() - lost_at > 3.0

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(until(called_for_three_seconds))
            await until(lambda: sent)
            await asyncio.to_thread(own_postgres.stop)
            lost_at = time.monotonic()
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: _samples(caller, logged, "again"))
        await until(lambda: _fresh(database_url))
    logged_ids = {capture.request_id for batch in await logged.batches() for capture in batch.captures}
    sampled = [f"lost-{i}" in logged_ids for i in range(sent)]
    # First as before, while the flags were still fresh enough; then none at all.
    assert sampled == sorted(sampled, reverse=True)
    assert sampled[0]
    assert not sampled[-1]


async def _samples(caller: routers.Caller, logged: Logged, request_id: str) -> bool:
    await caller.predict(a_request(request_id=request_id))
    return any(capture.request_id == request_id for batch in await logged.batches() for capture in batch.captures)


async def _fresh(database_url: str) -> bool:
    return 0 < await counter(database_url, "flag_age_ms") < 1_000


async def test_a_router_that_never_read_its_configuration_says_so_and_serves_once_it_has(
    own_postgres: EmbeddedPostgres, nats_url: str, log_name: str, stack: AsyncExitStack, free_port: int
) -> None:
    database_url = own_postgres.create_database("cold")
    await asyncio.to_thread(migrate, database_url)
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    await asyncio.to_thread(own_postgres.stop)
    address = f"127.0.0.1:{free_port}"
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, router_listen=address, flag_check_interval=0.2
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    role = asyncio.create_task(router_role.run(settings, stop, ready=ready.set_result))
    async with calling(address) as caller:
        await caller.channel.channel_ready()
        error = await caller.status(a_request())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "has not read its configuration yet" in (error.details() or "")
        health = await health_pb2_grpc.HealthStub(caller.channel).Check(
            health_pb2.HealthCheckRequest(), timeout=PATIENCE
        )
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not ready.done()
        await asyncio.to_thread(own_postgres.start)
        assert await asyncio.wait_for(ready, PATIENCE) == address
        assert (await caller.predict(a_request())).response == b"x"
    stop.set()
    await role


async def test_a_router_that_starts_while_the_store_is_away_serves_by_what_one_last_read(
    own_postgres: EmbeddedPostgres, nats_url: str, log_name: str, stack: AsyncExitStack, tmp_path: Path
) -> None:
    database_url = own_postgres.create_database("restarted")
    await asyncio.to_thread(migrate, database_url)
    live, shadow = [await stack.enter_async_context(version(saying(answer))) for answer in (b"live", b"shadow")]
    await register(database_url, {"base": live.address, "A": shadow.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
    copy = tmp_path / "kept" / "configuration.json"
    kept = {"configuration_copy": copy}
    async with routers.router(database_url, nats_url, log_name, **kept) as caller:
        assert (await caller.predict(a_request())).response == b"live"
        await until(copy.exists)
    assert copy.stat().st_mode & 0o077 == 0
    await asyncio.to_thread(own_postgres.stop)
    async with routers.router(database_url, nats_url, log_name, instance="again", **kept) as caller:
        assert (await caller.predict(a_request())).response == b"live"
        assert await serves(caller.channel)
        # Once the store is back, the copy is of no account any more.
        await asyncio.to_thread(own_postgres.start)
        await register(database_url, {"base": live.address, "A": shadow.address}, {"base": Claim.OFF, "A": Claim.LIVE})

        async def follows() -> bool:
            return (await caller.predict(a_request())).response == b"shadow"

        await until(follows)
    assert list(copy.parent.iterdir()) == [copy], "nothing half written is left"


async def serves(channel: grpc.aio.Channel) -> bool:
    health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    serving: bool = health.status == health_pb2.HealthCheckResponse.SERVING
    return serving


async def test_a_router_stops_in_order_while_it_waits_for_the_store(nats_url: str, log_name: str) -> None:
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none", nats_url=nats_url, log_name=log_name,
        router_listen="127.0.0.1:0", drain_seconds=0.5,
    )  # fmt: skip
    stop = asyncio.Event()
    role = asyncio.create_task(router_role.run(settings, stop, ready=lambda _: None))
    asyncio.get_running_loop().call_soon(stop.set)
    await asyncio.wait_for(role, PATIENCE)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"nats_url": None}, InvalidInput, "MULTISHADOW_NATS_URL"),
        ({"nats_url": "nats://127.0.0.1:no"}, InvalidInput, "MULTISHADOW_NATS_URL is no NATS URL"),
        ({"database_url": "mysql://x/y"}, InvalidInput, "MULTISHADOW_DATABASE_URL is no PostgreSQL URL"),
        ({"router_listen": "192.0.2.1:50051"}, FailedPrecondition, "cannot listen on 192.0.2.1:50051"),
    ],
    ids=["no log", "bad log", "bad store", "foreign address"],
)
async def test_a_router_that_cannot_start_says_why(
    nats_url: str, settings: dict[str, str | None], error: type[Exception], said: str
) -> None:
    usable = {"database_url": "postgresql://nobody@127.0.0.1:1/x", "nats_url": nats_url, "router_listen": "127.0.0.1:0"}
    with pytest.raises(error, match=said):
        await router_role.run(Settings(**{**usable, **settings}), asyncio.Event(), ready=lambda _: None)  # type: ignore[arg-type]  # by name


# --- flags --------------------------------------------------------------------------------------------------------


async def test_promote_and_rollback_under_load_fail_no_request_and_hold_for_every_later_one(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    base = await stack.enter_async_context(version(saying(b"old")))
    new = await stack.enter_async_context(version(saying(b"new")))
    addresses = {"base": base.address, "A": new.address}
    await register(database_url, addresses, SAMPLED)
    done = asyncio.Event()
    replies: list[routers.Reply] = []

    async def callers(caller: routers.Caller) -> None:
        while not done.is_set():
            replies.append(await caller.predict(a_request()))

    async with routers.router(database_url, nats_url, log_name) as caller:
        tasks = [asyncio.create_task(callers(caller)) for _ in range(8)]
        for claim, answer in ((Claim.LIVE, b"new"), (Claim.SHADOW, b"old")) * 3:
            revision = await register(database_url, addresses, {**SAMPLED, "A": claim})
            await until(partial(_seen, replies, revision))
            assert (await caller.predict(a_request())).response == answer
        done.set()
        await asyncio.gather(*tasks)
    by_revision = {int(reply.trailing["x-multishadow-revision"]): reply.response for reply in replies}
    for reply in replies:
        # One revision, one live version: nobody saw half a change.
        assert reply.response == by_revision[int(reply.trailing["x-multishadow-revision"])]


def _seen(replies: list[routers.Reply], revision: int) -> bool:
    return bool(replies) and replies[-1].trailing["x-multishadow-revision"] == str(revision)


async def test_when_no_flag_claims_live_any_more_the_last_one_that_did_serves_on(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    base = await stack.enter_async_context(version(saying(b"old")))
    new = await stack.enter_async_context(version(saying(b"new")))
    addresses = {"base": base.address, "A": new.address}
    await register(database_url, addresses, {"A": Claim.LIVE})
    async with routers.router(database_url, nats_url, log_name) as caller:
        assert (await caller.predict(a_request())).response == b"new"
        revision = await register(database_url, addresses, {})

        async def follows() -> bool:
            reply = await caller.predict(a_request())
            assert reply.response == b"new"
            return reply.trailing["x-multishadow-revision"] == str(revision)

        await until(follows)


# --- processes ----------------------------------------------------------------------------------------------------


async def test_a_router_reports_itself_and_withdraws_when_it_stops(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    revision = await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    async with routers.router(database_url, nats_url, log_name) as caller:
        await caller.predict(a_request())
        await until(lambda: _is(counter(database_url, "captured"), 1))
        (status,) = await status_of(database_url, "router")
        assert (status.instance, status.pid, status.revision) == (f"router-of-{log_name}", os.getpid(), revision)
        assert status.counters["requests"] == 1
        assert status.counters["flag_age_ms"] < 5_000
    assert await status_of(database_url, "router") == []


async def test_a_router_that_stops_finishes_what_it_began_and_flushes_its_captures(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    gate = asyncio.Event()

    async def wait(_body: bytes, _context: routers.Context) -> bytes:
        await gate.wait()
        return b"late"

    live = await stack.enter_async_context(version(wait))
    await register(database_url, {"base": live.address, "A": live.address}, SAMPLED)
    logged = Logged(await connected(nats_url, stack), log_name)
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, router_listen="127.0.0.1:0",
        flush_interval=5.0, drain_seconds=20.0,
    )  # fmt: skip
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    role = asyncio.create_task(router_role.run(settings, stop, ready=ready.set_result))
    async with calling(await ready) as caller:
        under_way = asyncio.ensure_future(caller.predict(a_request(request_id="late")))
        await until(lambda: live.bodies)
        stop.set()
        await until(lambda: _refused(caller))
        gate.set()
        assert (await under_way).response == b"late"
    await role
    # One that was still taken in meanwhile may be beside it.
    assert "late" in [capture.request_id for capture in await logged.captures(1)]


async def _refused(caller: routers.Caller) -> bool:
    async with calling(caller.address) as newcomer:
        with suppress(grpc.aio.AioRpcError):
            await newcomer.predict(a_request(), timeout=0.2)
            return False
    return True


async def test_two_router_processes_share_one_address(
    database_url: str, nats_url: str, log_name: str, stack: AsyncExitStack, free_port: int
) -> None:
    live = await stack.enter_async_context(version(saying(b"x")))
    await register(database_url, {"base": live.address}, {"base": Claim.LIVE})
    address = f"127.0.0.1:{free_port}"
    environment = {"MULTISHADOW_LOG_NAME": log_name, "MULTISHADOW_REPORT_INTERVAL": "0.1"}
    processes: list[Running] = []
    arguments = ("router", "--listen", address, "--database-url", database_url, "--nats-url", nats_url)
    for _ in range(2):
        process = stack.enter_context(running(*arguments, environment=environment))
        await asyncio.to_thread(process.line_with, address)
        processes.append(process)

    async def both_answered() -> bool:
        # The kernel picks a process for each connection.
        async with calling(address) as caller:
            assert (await caller.predict(a_request())).response == b"x"
        statuses = await status_of(database_url, "router")
        return len([status for status in statuses if status.counters.get("requests")]) == 2

    await until(both_answered)
    for process in processes:
        process.process.send_signal(signal.SIGTERM)
    assert [await asyncio.to_thread(process.ended) for process in processes] == [0, 0]
