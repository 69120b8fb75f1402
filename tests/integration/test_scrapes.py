"""What running roles expose to Prometheus."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from authorities import Authority
from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.app import measuring, securing
from multishadow_server.app import router as router_role
from multishadow_server.app import worker as worker_role
from multishadow_server.core import metric_samples
from multishadow_server.core.metric_samples import sample
from multishadow_server.core.routing import Claim
from multishadow_server.errors import FailedPrecondition
from multishadow_server.settings import Settings
from routers import a_request, refusing, register, router, saying, version
from running import running
from running_control import asked, control_addresses
from scraping import described, scrape
from shadowed_traffic import append, staged, working
from version_servers import answering, failing
from waiting import PATIENCE, until

FREE = "127.0.0.1:0"


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


async def counters_of(database_url: str, role: str) -> list[str]:
    """The names of the counters by which a process of that role reports itself."""
    engine = open_engine(database_url)
    try:
        return [
            name for each in await PostgresControl(engine).processes() if each.role == role for name in each.counters
        ]
    finally:
        await engine.dispose()


async def test_a_router_tells_of_callers_and_of_captures(database_url: str, nats_url: str, log_name: str) -> None:
    metrics: list[str] = []
    async with version(saying(b"yes")) as live, version(refusing(grpc.StatusCode.INTERNAL, "no")) as bad:
        addresses = {"base": live.address, "A": "127.0.0.1:1"}
        await register(database_url, addresses, {"base": Claim.LIVE, "A": Claim.SHADOW})
        await register(database_url, {"base": bad.address}, {"base": Claim.LIVE}, model="ham")
        async with router(
            database_url, nats_url, log_name, metrics_listen=FREE, metrics_ready=metrics.append, sampling_interval=0.05
        ) as caller:
            for _ in range(3):
                await caller.predict(a_request())
            await caller.status(a_request("ham"))

            async def all_appended() -> bool:
                return (await scrape(metrics[0])).value("captures_appended_total", role="shadow") == 3

            await until(all_appended)

            async def log_seen() -> bool:
                return bool((await scrape(metrics[0])).value("log_bytes", role="shadow"))

            await until(log_seen)
            found = await scrape(metrics[0])
            assert found.families == described("router")
            spam = {"role": "live", "model": "spam", "version": "base"}
            assert found.value("live_requests_total", **spam, outcome="ok") == 3
            assert found.value("live_latency_seconds_count", **spam) == 3
            assert found.total("live_requests_total", model="ham", outcome="failed") == 1
            assert found.value("router_requests_total", role="live") == 4
            assert found.value("sampling_requests_total", role="shadow", decision="sampled") == 3
            assert found.value("log_reachable", role="shadow") == 1
            age = found.value("flags_age_seconds")
            assert age is not None
            assert age < 10
            names = await counters_of(database_url, "router")
            assert names
            assert [name for name in names if not metric_samples.ROUTER.knows(name)] == []


async def test_a_worker_tells_of_shadows(database_url: str, nats_url: str, log_name: str) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=2, worker_linger=0.05,
        report_interval=0.05, metrics_listen=FREE,
    )  # fmt: skip
    metrics: list[str] = []
    behaviours = {"A": answering(), "B": failing(grpc.StatusCode.INTERNAL)}
    async with staged(settings, behaviours) as stage, working(settings, metrics_ready=metrics.append):
        await append(stage.log, stage.captures(20))
        await stage.counts.reach(40)

        async def committed() -> bool:
            found = await scrape(metrics[0])
            return found.value("shadow_captures_total", role="shadow", fate="observed") == 20

        await until(committed)
        found = await scrape(metrics[0])
        assert found.families == described("worker")
        assert found.total("comparisons_total", model="spam", version="A", outcome="agreed") == 20
        assert found.total("shadow_errors_total", version="B", code="INTERNAL") == 20
        assert found.total("shadow_latency_seconds_count", version="A") == 20
        assert found.total("worker_partitions") == 2
        names = await counters_of(database_url, "worker")
        assert names
        assert [name for name in names if not metric_samples.WORKER.knows(name)] == []


async def test_control_tells_how_everything_stands_also_while_postgresql_is_away(database_url: str) -> None:
    async with control_addresses(database_url) as (address, http), asked(address) as control:
        await control.apply("base", "A")
        await control.start("A", percent=100)
        found = await scrape(http)
        assert found.families == described("control")
        assert found.value("standing_known") == 1
        assert found.value("live_version_info", role="live", model="spam", version="base") == 1
        who = {"role": "shadow", "model": "spam", "version": "A"}
        assert found.value("experiment_comparisons", **who) == 0
        # A share of nothing is no number.
        assert found.value("experiment_divergence_ratio", **who) is None
        assert found.value("experiment_drift", **who, direction="rising") == 0
        names = await counters_of(database_url, "control")
        assert names
        assert [name for name in names if not metric_samples.CONTROL.knows(name)] == []


async def test_metrics_are_there_while_neither_postgresql_nor_nats_is(nobody: str) -> None:
    settings: dict[str, Any] = {
        "database_url": f"postgresql://nobody@{nobody}/none", "nats_url": f"nats://{nobody}", "metrics_listen": FREE,
        "router_listen": FREE, "drain_seconds": 0.2,
    }  # fmt: skip
    stop = asyncio.Event()
    addresses: dict[str, asyncio.Future[str]] = {}
    roles = []
    for name, role in (("router", router_role), ("worker", worker_role)):
        addresses[name] = asyncio.get_running_loop().create_future()
        running = role.run(Settings(**settings), stop, ready=lambda _: None, metrics_ready=addresses[name].set_result)
        roles.append(asyncio.create_task(running))
    try:
        async with asyncio.timeout(PATIENCE):
            found = {name: await scrape(await address) for name, address in addresses.items()}
            assert {name: each.families for name, each in found.items()} == {
                "router": described("router"),
                "worker": described("worker"),
            }

            async def read() -> bool:
                return (await scrape(await addresses["router"])).value("flags_age_seconds") == float("inf")

            await until(read)
        async with control_addresses(str(settings["database_url"])) as (_, http):
            without = await scrape(http)
            assert without.value("standing_known") == 0
            assert without.value("flags_stale") == 1
            assert without.value("standing_failures_total") == 1
    finally:
        stop.set()
        await asyncio.gather(*roles)


async def test_control_asks_for_a_token_where_tokens_are_needed(database_url: str) -> None:
    async with (
        control_addresses(database_url, auth="tokens") as (_, http),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        refused = await client.get(f"http://{http}/metrics")
        assert refused.status_code == 401


async def test_an_address_that_is_taken_says_which_setting_chooses_another(nobody: str) -> None:
    settings = Settings(
        database_url="postgresql://127.0.0.1:1/none", nats_url="nats://127.0.0.1:1", metrics_listen=nobody,
        router_listen=FREE,
    )  # fmt: skip
    with pytest.raises(FailedPrecondition, match="choose another with MULTISHADOW_METRICS_LISTEN"):
        await router_role.run(settings, asyncio.Event(), ready=lambda _: None)


async def test_metrics_are_served_over_tls_like_every_other_port(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("metrics")
    settings = Settings(metrics_listen=FREE, tls_cert=pair.cert, tls_key=pair.key)
    trusting = ssl.create_default_context(cafile=str(authority.file))
    addresses: list[str] = []
    async with AsyncExitStack() as stack, httpx.AsyncClient(verify=trusting, trust_env=False) as client:
        source = await measuring.expose(settings, "worker", securing.serving(settings), stack, ready=addresses.append)
        source.read = lambda: [sample("worker_partitions", 3)]
        answer = await client.get(f"https://{addresses[0]}/metrics")
        assert 'multishadow_worker_partitions{role="shadow"} 3.0' in answer.text
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://{addresses[0]}/metrics")


def test_a_process_says_where_its_metrics_are_and_logs_in_json(postgres: EmbeddedPostgres, nats_url: str) -> None:
    environment = {"MULTISHADOW_METRICS_LISTEN": FREE, "MULTISHADOW_LOG_FORMAT": "json", "MULTISHADOW_INSTANCE": "w-1"}
    engines = ("--database-url", postgres.create_database("not_migrated"), "--nats-url", nats_url)
    with running("worker", *engines, environment=environment) as command:
        address = command.line_with("worker metrics on ").rpartition(" ")[2]
        waiting = json.loads(command.line_with("waiting for the schema"))
        assert (waiting["level"], waiting["role"], waiting["instance"]) == ("warning", "worker", "w-1")
        # It cannot work yet, and can be looked at.
        assert "multishadow_build_info" in httpx.get(f"http://{address}/metrics", trust_env=False).text
        command.process.terminate()
        assert command.ended() == 0
