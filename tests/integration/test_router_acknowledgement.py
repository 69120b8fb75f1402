"""Routers say which revision they act on as soon as they do, and who served their callers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import psycopg
import pytest
from grpc import StatusCode

from multishadow_server.adapters.postgres import PostgresControl, PostgresRollouts
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.live_counts import LiveCounts
from multishadow_server.core.routing import Claim
from multishadow_server.service import acknowledgement, promotion
from routers import Caller, a_request, refusing, register, router, saying, set_flag, trailing_of, version
from store_fixtures import opened
from waiting import until

# Longer than any test: what is known of a router within it, the router said without waiting for it.
NEVER = 600.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresControl]:
    async with opened(database_url) as engine:
        yield PostgresControl(engine)


async def follows(store: PostgresControl, revision: int) -> bool:
    """Whether a router acts on the revision, and none does not."""
    found = await acknowledgement.acknowledged(store, revision, now=0.0)
    return bool(found.routers) and not found.stragglers


async def test_a_router_acknowledges_a_revision_without_waiting_for_its_next_report(
    store: PostgresControl, database_url: str, nats_url: str, log_name: str
) -> None:
    async with version(saying(b"base")) as base, version(saying(b"A")) as a:
        first = await register(
            database_url, {"base": base.address, "A": a.address}, {"base": Claim.LIVE, "A": Claim.OFF}
        )
        async with router(database_url, nats_url, log_name, report_interval=NEVER) as caller:
            await until(lambda: follows(store, first))
            flipped = await set_flag(database_url, "spam.A", claim_definition("spam", Claim.LIVE))
            assert flipped > first
            await until(lambda: follows(store, flipped))
            # Who has acknowledged answers by it.
            assert (await caller.predict(a_request())).trailing["x-multishadow-version"] == "A"


async def counted(database_url: str, *, revision: int) -> dict[str, LiveCounts]:
    async with opened(database_url) as engine:
        counts = await PostgresRollouts(engine).stage_counts("spam", first_revision=revision, stage_revision=revision)
    return dict(counts.stage)


async def test_every_live_request_counts_for_the_version_that_was_chosen(
    database_url: str, nats_url: str, log_name: str
) -> None:
    async with (
        version(saying(b"base")) as base,
        version(refusing(StatusCode.INTERNAL, "broken")) as broken,
        version(refusing(StatusCode.UNAVAILABLE, "away")) as away,
    ):
        addresses = {"base": base.address, "broken": broken.address, "away": away.address}
        first = await register(database_url, addresses, {"base": Claim.LIVE})
        async with router(database_url, nats_url, log_name) as caller:
            for _ in range(3):
                await caller.predict(a_request())
            second = await set_flag(database_url, "spam.broken", claim_definition("spam", Claim.LIVE))
            await until(lambda: served_by(caller, "broken"))
            third = await set_flag(database_url, "spam.away", claim_definition("spam", Claim.LIVE))
            await set_flag(database_url, "spam.broken", claim_definition("spam", Claim.OFF))
            await until(lambda: served_by(caller, "base"))
        # A router that ended in order has saved everything.
        by_base = (await counted(database_url, revision=first))["base"]
        assert by_base.requests >= 3
        assert by_base.failed == 0
        assert sum(by_base.latencies.values()) == by_base.requests
        by_broken = (await counted(database_url, revision=second))["broken"]
        assert 0 < by_broken.failed == by_broken.requests
        assert by_broken.latencies == {}
        # Base answered in its place: the callers were well, and it failed all the same.
        by_away = (await counted(database_url, revision=third))["away"]
        assert by_away.failed == by_away.requests
        assert by_away.covered > 0


async def served_by(caller: Caller, name: str) -> bool:
    """Whether the next request is answered by that version, with an answer or an error."""
    try:
        trailing = (await caller.predict(a_request())).trailing
    except grpc.aio.AioRpcError as error:
        trailing = trailing_of(error)
    return trailing.get("x-multishadow-version") == name


@pytest.mark.parametrize("breakage", ["ALTER TABLE epoch RENAME TO epoch_lost", "DROP TABLE experiment CASCADE"])
async def test_routers_hear_of_a_rollback_while_experiments_cannot_be_read(
    store: PostgresControl, database_url: str, nats_url: str, log_name: str, breakage: str
) -> None:
    async with version(saying(b"base")) as base, version(saying(b"A")) as a:
        await register(database_url, {"base": base.address, "A": a.address}, {"base": Claim.LIVE})
        async with router(database_url, nats_url, log_name) as caller:
            promoted = await promotion.promote(
                store, NoProbe(), model="spam", version="A", actor="ada", reason="test", force=True, clock=lambda: 0.0
            )
            await until(lambda: follows(store, promoted.revision))
            with psycopg.connect(database_url) as connection:
                connection.execute(breakage.encode())
            undone = await promotion.rollback(store, model="spam", actor="ada")
            await until(lambda: follows(store, undone.revision))
            assert (await caller.predict(a_request())).trailing["x-multishadow-version"] == "base"


class NoProbe:
    """Forced promotions ask nobody."""

    async def connect(self, address: str, *, within: float) -> None:
        raise AssertionError(address)
