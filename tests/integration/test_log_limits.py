"""A capture log that is full, and one that can never fill its disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

import routers
from multishadow_server.adapters.deployment import Deployment
from multishadow_server.adapters.embedded import EmbeddedNats
from multishadow_server.adapters.jetstream_log import ensure_stream
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.errors import FailedPrecondition
from multishadow_server.settings import Settings
from shadowed_traffic import LIVE, MODEL, Counts, begin_experiment, connected, working
from version_servers import answering, serving
from waiting import until

STORE_BYTES = 1_000_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[EmbeddedNats]:
    engine = EmbeddedNats(tmp_path / "nats", store_bytes=STORE_BYTES)
    engine.start()
    yield engine
    engine.stop()


async def test_a_full_log_drops_what_comes_counts_it_and_recovers_while_callers_notice_nothing(
    database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=2, log_max_bytes=40_000,
        buffer_captures=50, flush_interval=0.02, worker_linger=0.05,
    )  # fmt: skip
    limits = {name: getattr(settings, name) for name in ("log_partitions", "log_max_bytes", "buffer_captures")}
    # Else the router would sample less by itself, which is another test's subject.
    limits["sampling_interval"] = 3_600.0
    async with serving(answering()) as live, serving(answering()) as shadow:
        epoch = await begin_experiment(database_url, {LIVE: live.address, "A": shadow.address})
        for name, claim in ((LIVE, Claim.LIVE), ("A", Claim.SHADOW)):
            await routers.set_flag(database_url, f"{MODEL}.{name}", claim_definition(MODEL, claim))
        counts = Counts(database_url, epoch)
        async with routers.router(database_url, nats_url, log_name, flush_interval=0.02, **limits) as caller:
            calls, slowest = 0, 0.0

            async def call_until_dropped() -> bool:
                nonlocal calls, slowest
                for _ in range(25):
                    began = time.monotonic()
                    await caller.predict(routers.a_request(text="x" * 200, request_id=f"r-{calls}"))
                    slowest = max(slowest, time.monotonic() - began)
                    calls += 1
                (router,) = [each for each in await counts.processes() if each.role == "router"]
                return router.counters.get("dropped.log_full", 0) > 25

            await until(call_until_dropped)
            assert slowest < 5.0, "nobody waited for the log"
            async with working(settings):
                # What was refused is sent again, by itself, and the drops ride along.
                await counts.reach(calls)
                await caller.predict(routers.a_request(request_id="after"))
                await counts.reach(calls + 1)
            assert await counts.by_version() == {"A": calls + 1}
            dropped = await counts.family("dropped_reason")
            assert set(dropped) <= {("A", "log_full"), ("A", "buffer_full")}
            assert 25 < dropped.total() < calls
        await counts.aclose()


async def test_an_embedded_log_never_takes_more_of_the_disk_than_it_may(small: EmbeddedNats) -> None:
    async with connected(small.url) as client:
        js = client.jetstream()
        with pytest.raises(FailedPrecondition, match=r"2000000 bytes in 1 replica.*MULTISHADOW_LOG_MAX_BYTES"):
            await ensure_stream(js, Settings(log_max_bytes=2 * STORE_BYTES))
        await ensure_stream(js, Settings(log_max_bytes=STORE_BYTES // 2, log_partitions=3))
        # It cannot grow, and goes on as it is.
        assert await ensure_stream(js, Settings(log_max_bytes=2 * STORE_BYTES)) == 3
        assert (await js.stream_info("captures")).config.max_bytes == STORE_BYTES // 2
        for _ in range(4):
            await js.publish("captures.0", bytes(50_000))
        assert 200_000 < small.held_bytes < STORE_BYTES
        refused = 0
        for _ in range(10):
            try:
                await js.publish("captures.0", bytes(50_000))
            except nats.js.errors.APIError:
                refused += 1
        assert refused >= 5
        assert small.held_bytes < STORE_BYTES


async def test_replicas_that_a_server_alone_cannot_keep_are_refused_by_their_setting(small: EmbeddedNats) -> None:
    async with connected(small.url) as client:
        with pytest.raises(FailedPrecondition, match=r"3 replica.*MULTISHADOW_LOG_REPLICAS"):
            await ensure_stream(client.jetstream(), Settings(log_max_bytes=1000, log_replicas=3))


def test_a_log_larger_than_the_disk_is_lowered_and_it_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    settings = Settings(data_dir=tmp_path, log_max_bytes=1 << 60)
    deployment = Deployment(settings, routers=1, workers=1, report=said.append)
    _, size = deployment._sized_log(settings)
    assert 0 < size < 1 << 60
    (line,) = said
    assert "not MULTISHADOW_LOG_MAX_BYTES (1,099,511,627,776 MiB): the disk has no more to spare" in line
    _, small = deployment._sized_log(settings.model_copy(update={"log_max_bytes": 1000}))
    assert (small, len(said)) == (1000, 1)


async def test_the_stream_keeps_what_nobody_has_counted_and_bounds_what_it_remembers(
    nats_url: str, log_name: str
) -> None:
    async with connected(nats_url) as client:
        await ensure_stream(client.jetstream(), Settings(log_name=log_name))
        config = (await client.jetstream().stream_info(log_name)).config
    assert (config.max_age or 0, config.duplicate_window, config.num_replicas) == (0, 120, 1)
