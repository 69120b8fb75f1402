"""Routers that read their flags from somebody else: stock providers, and what becomes of callers when these fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack

import grpc
import pytest

import routers
from flagd_sync_server import SyncServer, flag_set, publishing
from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import flags_pb2
from multishadow_server.app import router as router_role
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.errors import InvalidInput
from multishadow_server.settings import Settings
from ofrep_server import OfrepServer, answering
from routers import Caller, a_request, register, saying, version
from running_control import asked, control_address, refused
from waiting import PATIENCE, until

FLAGD = "openfeature.contrib.provider.flagd:FlagdProvider"
OFREP = "multishadow_server.adapters.flag_provider:ofrep"
# What our own flags say, which nobody is to read here.
OURS = {"base": Claim.LIVE, "A": Claim.OFF}
BASE_LIVE = {"spam.base": claim_definition("spam", Claim.LIVE), "spam.A": claim_definition("spam", Claim.SHADOW)}
A_LIVE = {**BASE_LIVE, "spam.A": claim_definition("spam", Claim.LIVE)}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def registered(database_url: str, stack: AsyncExitStack) -> str:
    """A database with a model of two versions, each of which answers with its name."""
    addresses = {}
    for name in ("base", "A"):
        addresses[name] = (await stack.enter_async_context(version(saying(name.encode())))).address
    await register(database_url, addresses, OURS)
    return database_url


@pytest.fixture
def flagd(monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack) -> SyncServer:
    """A flag source for flagd's in-process provider, which is told of it by its own variables."""
    server = stack.enter_context(publishing(flag_set(BASE_LIVE)))
    monkeypatch.setenv("FLAGD_RESOLVER", "in-process")
    monkeypatch.setenv("FLAGD_HOST", "127.0.0.1")
    monkeypatch.setenv("FLAGD_SYNC_PORT", server.address.rpartition(":")[2])
    for name in ("FLAGD_RETRY_BACKOFF_MS", "FLAGD_RETRY_BACKOFF_MAX_MS"):
        monkeypatch.setenv(name, "100")
    monkeypatch.setenv("FLAGD_RETRY_GRACE_PERIOD", "1")
    return server


@pytest.fixture
def ofrep(monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack) -> OfrepServer:
    """A flag source that is asked over HTTP for every flag of every request."""
    server = stack.enter_context(answering({"spam.base": "live", "spam.A": "shadow"}))
    monkeypatch.setenv("OFREP_ENDPOINT", server.url)
    return server


async def served(caller: Caller, **fields: str) -> str:
    return (await caller.predict(a_request(**fields))).response.decode()


async def is_(read: Awaitable[object], wanted: object) -> bool:
    return await read == wanted


async def router_status(control: str) -> pb.ProcessStatus | None:
    async with asked(control) as channel:
        status = await channel.stub.GetStatus(pb.GetStatusRequest())
    return next((process for process in status.processes if process.role == "router"), None)


async def test_a_router_serves_and_shadows_by_flagds_flags(
    registered: str, nats_url: str, log_name: str, flagd: SyncServer, stack: AsyncExitStack
) -> None:
    router = routers.router(registered, nats_url, log_name, flag_provider=FLAGD)
    caller = await stack.enter_async_context(router)
    control = await stack.enter_async_context(control_address(registered))
    assert await served(caller) == "base"
    await until(lambda: _reads_from(control, "FlagdProvider"))
    flagd.publish(flag_set(A_LIVE, revision=2))
    await until(lambda: is_(served(caller), "A"))
    beta = {"if": [{"==": [{"var": "group"}, "beta"]}, "live", "shadow"]}
    flagd.publish(flag_set({**BASE_LIVE, "spam.A": {**BASE_LIVE["spam.A"], "targeting": beta}}, revision=3))
    await until(lambda: is_(served(caller), "base"))
    reply = await caller.predict(a_request(attributes={"group": "beta"}))
    assert reply.response == b"A"


async def _reads_from(control: str, source: str) -> bool:
    status = await router_status(control)
    return status is not None and status.flag_source == source


async def test_a_source_that_dies_keeps_the_live_version_and_stops_shadowing(
    registered: str, nats_url: str, log_name: str, flagd: SyncServer, stack: AsyncExitStack
) -> None:
    flagd.publish(flag_set({**A_LIVE, "spam.base": claim_definition("spam", Claim.SHADOW)}))
    router = routers.router(registered, nats_url, log_name, flag_provider=FLAGD, flag_stale_after=0.3)
    caller = await stack.enter_async_context(router)
    control = await stack.enter_async_context(control_address(registered))
    await until(lambda: is_(served(caller), "A"))
    flagd.stop()

    async def says_that_it_is_lost() -> bool:
        status = await router_status(control)
        return status is not None and "(" in status.flag_source and status.counters.get("flag_age_ms", 0) > 300

    await until(says_that_it_is_lost)
    before = await _sampled(control)
    assert [await served(caller) for _ in range(20)] == ["A"] * 20
    await _reported_again(control)
    assert await _sampled(control) == before

    flagd.publish(flag_set(BASE_LIVE, revision=2))
    flagd.start()
    await until(lambda: is_(served(caller), "base"))
    await until(lambda: _reads_from(control, "FlagdProvider"))


async def _sampled(control: str) -> int:
    status = await router_status(control)
    assert status is not None
    return status.counters.get("sampled", 0)


async def _reported_again(control: str) -> None:
    """Wait for a report that was made after now; the next one could have been on its way already."""
    seen = {await _reported_at(control)}

    async def twice() -> bool:
        seen.add(await _reported_at(control))
        return len(seen) >= 3

    await until(twice)


async def _reported_at(control: str) -> float:
    status = await router_status(control)
    assert status is not None
    return status.seen_at.ToNanoseconds()


async def test_a_router_that_asks_over_http_serves_by_it_with_each_requests_context(
    registered: str, nats_url: str, log_name: str, ofrep: OfrepServer, stack: AsyncExitStack
) -> None:
    router = routers.router(registered, nats_url, log_name, flag_provider=OFREP, flag_read_limit=5.0)
    caller = await stack.enter_async_context(router)
    assert await served(caller) == "base"
    ofrep.says["spam.A"] = "live"
    assert await served(caller, session_id="s-1") == "A"
    (_, context) = ofrep.asked[-1]
    assert (context["targetingKey"], context["shadowKey"], context["model"]) == ("s-1", "s-1", "spam")


async def test_callers_hardly_notice_a_source_that_hangs(
    registered: str, nats_url: str, log_name: str, ofrep: OfrepServer, stack: AsyncExitStack
) -> None:
    router = routers.router(registered, nats_url, log_name, flag_provider=OFREP, flag_read_limit=0.1)
    caller = await stack.enter_async_context(router)
    await until(lambda: is_(served(caller), "base"))
    ofrep.answering.clear()
    delays = []
    for _ in range(30):
        began = time.monotonic()
        assert await served(caller) == "base"
        delays.append(time.monotonic() - began)
    # The provider's own time limit is five seconds. Few requests wait a tenth, and then nobody waits.
    assert max(delays) < 2.5
    control = await stack.enter_async_context(control_address(registered))
    await until(lambda: _skipped(control, 20))
    status = await router_status(control)
    assert status is not None
    assert status.counters["flag_reads_late"] + status.counters["flag_reads_skipped"] >= 30
    ofrep.says["spam.A"] = "live"
    ofrep.answering.set()
    await until(lambda: is_(served(caller), "A"))


async def _skipped(control: str, fewest: int) -> bool:
    status = await router_status(control)
    return status is not None and status.counters.get("flag_reads_skipped", 0) >= fewest


@pytest.mark.parametrize("path", ["no_such_module:factory", "json:dumps"])
async def test_a_wrong_provider_ends_the_start_with_what_is_wrong(
    path: str, database_url: str, nats_url: str, log_name: str
) -> None:
    settings = Settings(
        database_url=database_url, nats_url=nats_url, log_name=log_name, flag_provider=path, router_listen="127.0.0.1:0"
    )
    with pytest.raises(InvalidInput, match=f"MULTISHADOW_FLAG_PROVIDER={path}: "):
        await router_role.run(settings, asyncio.Event(), ready=lambda _: None)


async def test_a_router_whose_source_is_away_at_the_start_says_so_and_takes_no_calls_until_it_is_there(
    registered: str, nats_url: str, log_name: str, flagd: SyncServer, stack: AsyncExitStack
) -> None:
    flagd.stop()
    control = await stack.enter_async_context(control_address(registered))
    router = routers.router(registered, nats_url, log_name, flag_provider=FLAGD)
    starting = asyncio.create_task(stack.enter_async_context(router))
    await until(lambda: _says_a_state(control))
    assert not starting.done()
    flagd.start()
    assert await served(await asyncio.wait_for(starting, PATIENCE)) == "base"


async def _says_a_state(control: str) -> bool:
    status = await router_status(control)
    return status is not None and status.flag_source.startswith("FlagdProvider (")


async def test_a_promotion_that_no_router_would_hear_of_is_refused_and_a_flag_write_says_so(
    registered: str, nats_url: str, log_name: str, flagd: SyncServer, stack: AsyncExitStack
) -> None:
    await stack.enter_async_context(routers.router(registered, nats_url, log_name, flag_provider=FLAGD))
    address = await stack.enter_async_context(control_address(registered))
    await until(lambda: _reads_from(address, "FlagdProvider"))
    control = await stack.enter_async_context(asked(address))
    said = f"router-of-{log_name} (FlagdProvider) reads flags from another source"
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, said, "flipping spam.A here", "nothing was changed"):
        await control.promote("A", force=False)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, said, "a rollback here would change nothing"):
        await control.rollback()
    assert await control.flags() == {"base": "live", "A": "off"}
    started = await control.start("A")
    written = await control.set_flag("A", pb.CLAIM_OFF)
    serve = flags_pb2.ServeVariant(variant="shadow", percent=5)
    edits = (
        flags_pb2.FlagWrite(key="spam.A", serve=serve),
        flags_pb2.FlagWrite(key="new-checkout", definition='{"state": "ENABLED", "variants": {"on": true}}'),
    )
    of_a_version, of_an_application = [
        (await control.flag_stub.PutFlags(flags_pb2.PutFlagsRequest(flags=[edit], actor="ada"))).changes
        for edit in edits
    ]
    assert not of_an_application.warnings
    promoted = await control.promote("A", force=True)
    stopped = await control.stop()
    for response in (started, written, of_a_version, promoted, stopped):
        assert [said in warning for warning in response.warnings] == [True]
    assert await control.live() == "A"


async def test_where_every_router_reads_our_flags_nobody_is_warned(
    registered: str, nats_url: str, log_name: str, stack: AsyncExitStack
) -> None:
    await stack.enter_async_context(routers.router(registered, nats_url, log_name))
    address = await stack.enter_async_context(control_address(registered))
    await until(lambda: _reads_from(address, ""))
    control = await stack.enter_async_context(asked(address))
    assert not (await control.promote("A")).warnings
    assert not (await control.rollback()).warnings
