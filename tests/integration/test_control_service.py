"""Control as a service: health, reflection, status, and what it does while its engines are away."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import nats
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from descriptions import described
from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.jetstream_log import ensure_stream
from multishadow_server.adapters.postgres import migrate
from multishadow_server.app import control as control_role
from multishadow_server.errors import FailedPrecondition, InvalidInput
from multishadow_server.service.ending import end
from multishadow_server.settings import Settings
from running_control import Control, asked, control_address, refused
from store_fixtures import rows
from waiting import PATIENCE, until

SERVICE = "multishadow.v1.ControlService"
NOBODY_LISTENS = "nats://127.0.0.1:1"


@pytest.fixture
async def address(database_url: str) -> AsyncIterator[str]:
    async with control_address(database_url, nats_url=NOBODY_LISTENS) as address:
        yield address


@pytest.fixture
async def control(address: str) -> AsyncIterator[Control]:
    async with asked(address) as client:
        yield client


async def test_control_is_healthy_and_describes_itself(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        for name in ("", SERVICE):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert SERVICE in await asyncio.to_thread(described, address)


async def test_the_status_shows_what_is_live_and_who_is_alive(control: Control, database_url: str) -> None:
    await control.apply("base", "A")

    async def reported() -> bool:
        return bool((await control.stub.GetStatus(pb.GetStatusRequest())).processes)

    await until(reported)
    gone = "now() - interval '11 seconds'"
    with_one_gone = (
        "INSERT INTO process (role, instance, host, pid, started_at, revision, counters, seen_at) "
        f"VALUES ('worker', 'lost', 'h', 1, {gone}, 1, '{{\"dropped.buffer_full\": 3}}', {gone}) RETURNING 1"
    )
    rows(database_url, with_one_gone)
    status = await control.stub.GetStatus(pb.GetStatusRequest())
    assert status.revision == 1
    assert [(model.name, model.live_version) for model in status.models] == [("spam", "base")]
    control_process, lost = status.processes
    assert (control_process.role, control_process.pid, control_process.alive) == ("control", os.getpid(), True)
    assert abs(control_process.seen_at.seconds - time.time()) < PATIENCE
    assert (lost.role, lost.alive, dict(lost.counters)) == ("worker", False, {"dropped.buffer_full": 3})


async def test_the_status_does_without_the_log(control: Control) -> None:
    status = await control.stub.GetStatus(pb.GetStatusRequest())
    assert not status.HasField("log_messages_waiting")


async def test_the_status_counts_what_waits_in_the_log(database_url: str, nats_url: str, log_name: str) -> None:
    async with (
        control_address(database_url, nats_url=nats_url, log_name=log_name) as address,
        asked(address) as control,
    ):
        assert (await control.stub.GetStatus(pb.GetStatusRequest())).log_messages_waiting == 0
        client = await nats.connect(nats_url)
        try:
            log = client.jetstream()
            await ensure_stream(log, Settings(log_name=log_name))
            for _ in range(3):
                await log.publish(f"{log_name}.0", b"a batch")
        finally:
            await client.close()
        status = await control.stub.GetStatus(pb.GetStatusRequest())
        assert status.log_messages_waiting == 3


async def test_a_process_that_ends_in_order_is_no_longer_listed(database_url: str) -> None:
    async with control_address(database_url):
        await until(lambda: rows(database_url, "SELECT * FROM process"))
    assert rows(database_url, "SELECT * FROM process") == []


async def test_calls_say_unavailable_while_the_database_is_away_and_work_when_it_is_back(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path / "data")
    url = engine.start()
    try:
        migrate(url)
        async with control_address(url) as address, asked(address) as control:
            await control.apply("base", "A")
            engine.stop()
            async with refused(StatusCode.UNAVAILABLE, "PostgreSQL"):
                await control.promote("A")
            async with refused(StatusCode.UNAVAILABLE, "PostgreSQL"):
                await control.live()
            engine.start()
            assert (await control.promote("A")).changed
    finally:
        engine.stop()


async def test_a_database_without_a_schema_says_what_to_run(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path / "data")
    try:
        async with (
            control_address(engine.start()) as address,
            asked(address) as control,
            refused(StatusCode.FAILED_PRECONDITION, "multishadow migrate"),
        ):
            await control.apply("base")
    finally:
        engine.stop()


async def test_control_says_what_it_needs_to_start(address: str, database_url: str) -> None:
    with pytest.raises(InvalidInput, match="MULTISHADOW_DATABASE_URL"):
        async with control_address(None):
            pass
    with pytest.raises(FailedPrecondition, match=f"cannot listen on {address}"):
        async with control_address(database_url, control_listen=address):
            pass


async def test_control_that_leaves_says_so_first_and_goes_on_answering(database_url: str) -> None:
    settings = Settings(
        database_url=database_url, control_listen="127.0.0.1:0", http_listen="127.0.0.1:0", drain_delay=30.0,
    )  # fmt: skip
    stop = asyncio.Event()
    http: list[str] = []
    bound: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    role = asyncio.create_task(control_role.run(settings, stop, ready=bound.set_result, http_ready=http.append))
    async with asked(await bound) as control, grpc.aio.insecure_channel(await bound) as channel:
        stop.set()

        async def leaving() -> bool:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            return bool(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING)

        await until(leaving)
        assert (await control.stub.GetStatus(pb.GetStatusRequest())).revision == 0
        reader, writer = await asyncio.open_connection(*http[0].rsplit(":", 1))
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await writer.wait_closed()
    await end(role)
