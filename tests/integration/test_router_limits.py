"""A router samples less while workers do not keep up, captures nothing that writes, and nothing that is too large."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

import nats
import pytest

from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.jetstream_pressure import JetStreamPressure
from multishadow_server.adapters.postgres import PostgresControl
from multishadow_server.core.routing import Claim
from multishadow_server.core.writes import Writes
from multishadow_server.errors import LogUnavailable
from multishadow_server.settings import Settings
from routers import Caller, Logged, a_request, register, router, saying, version
from shadowed_traffic import a_capture, append, connected, working
from store_fixtures import opened
from waiting import until


async def counters(store: PostgresControl, role: str = "router") -> Mapping[str, int]:
    """What the only process of a role last said."""
    return next((each.counters for each in await store.processes() if each.role == role), {})


async def test_the_log_tells_its_age_and_how_full_it_is(nats_url: str, log_name: str) -> None:
    async with connected(nats_url) as client:
        pressure = JetStreamPressure(client, log_name)
        with pytest.raises(LogUnavailable):
            await pressure.look()
        log = JetStreamLog(client, Settings(log_name=log_name, log_max_bytes=10_000))
        await log.open()
        assert (await pressure.look()).lag == (await pressure.look()).fill == 0
        await append(log, [a_capture("r", request=bytes(4_000))])
        first = await pressure.look()
        assert 0.4 < first.fill < 0.6
        await until(lambda: _is_older(pressure, first.lag + 0.05))
    with pytest.raises(LogUnavailable):
        await pressure.look()


async def _is_older(pressure: JetStreamPressure, lag: float) -> bool:
    return (await pressure.look()).lag > lag


async def test_the_sampling_falls_while_no_worker_works_and_rises_when_one_does(
    database_url: str, nats_url: str, log_name: str
) -> None:
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(version(saying(b"!")))
        await register(database_url, {"base": base.address, "A": base.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
        caller = await stack.enter_async_context(
            router(database_url, nats_url, log_name, sampling_interval=0.05, sampling_lag=1.0, flush_interval=0.01)
        )
        store = PostgresControl(await stack.enter_async_context(opened(database_url)))
        asked = 0
        while (await counters(store)).get("sampling_permille", 1000) > 400:
            await caller.predict(a_request(request_id=f"r-{asked}"))
            asked += 1
        asked += await _ask(caller, 100, "late")
        await until(lambda: _adds_up(store, asked))
        low = await counters(store)
        assert low["sampling.passed_over"] > 30
        settings = Settings(
            database_url=database_url, nats_url=nats_url, log_name=log_name, report_interval=0.05, worker_linger=0.05
        )
        async with working(settings):
            await until(lambda: _is_whole(store))
            passed_over = (await counters(store))["sampling.passed_over"]
            asked += await _ask(caller, 20, "again")
            await until(lambda: _adds_up(store, asked))
            after = await counters(store)
            assert after["sampling.passed_over"] == passed_over
            assert not [name for name in after if name.startswith("dropped.")]
            await until(lambda: _are_worked_off(store, after["sampled"]))


async def _ask(caller: Caller, count: int, prefix: str) -> int:
    for number in range(count):
        assert (await caller.predict(a_request(request_id=f"{prefix}-{number}"))).response == b"!"
    return count


async def _adds_up(store: PostgresControl, asked: int) -> bool:
    """Each request is captured or passed over, and each capture is in the log."""
    now = await counters(store)
    return now["sampled"] + now.get("sampling.passed_over", 0) == asked and now["sampled"] == now["captured"]


async def _is_whole(store: PostgresControl) -> bool:
    return "sampling_permille" not in await counters(store)


async def _are_worked_off(store: PostgresControl, sampled: int) -> bool:
    return (await counters(store, "worker")).get("captures") == sampled


async def test_what_writes_is_answered_and_never_logged_and_what_is_too_large_is_a_drop_that_is(
    database_url: str, nats_url: str, log_name: str
) -> None:
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(version(saying(b"!")))
        await register(database_url, {"base": base.address, "A": base.address}, {"base": Claim.LIVE, "A": Claim.SHADOW})
        caller = await stack.enter_async_context(router(database_url, nats_url, log_name, flush_interval=0.01))
        store = PostgresControl(await stack.enter_async_context(opened(database_url)))
        client = await nats.connect(nats_url)
        stack.push_async_callback(client.close)
        logged = Logged(client, log_name)
        await caller.predict(a_request(request_id="marked"), metadata=(("x-multishadow-write", "true"),))
        await caller.predict(a_request(request_id="plain"))
        (capture,) = await logged.captures(1)
        assert capture.request_id == "plain"
        async with store.change("test") as change:
            await change.put_model(replace(change.configuration.models["spam"], max_request_bytes=100))
        await until(lambda: _follows(caller, change.revision))
        await caller.predict(a_request(request_id="large", text="x" * 100))
        await until(logged.drops)
        assert [(drop.reason, drop.count, drop.shadows) for drop in await logged.drops()] == [("too_large", 1, ("A",))]
        async with store.change("test") as change:
            await change.put_model(replace(change.configuration.models["spam"], writes=Writes(methods=("Predict",))))
        await until(lambda: _follows(caller, change.revision))
        await caller.predict(a_request(request_id="written"))
        await until(lambda: _counted_writes(store))
        written = {capture.request_id for batch in await logged.batches() for capture in batch.captures}
        assert not written & {"marked", "large", "written"}


async def _follows(caller: Caller, revision: int) -> bool:
    reply = await caller.predict(a_request(model="spam", request_id="ask"), metadata=(("x-multishadow-write", "1"),))
    return reply.trailing["x-multishadow-revision"] == str(revision)


async def _counted_writes(store: PostgresControl) -> bool:
    return (await counters(store)).get("writes.not_shadowed", 0) >= 3
