"""Sessions in a worker over the real log and the real store: which are whole, and which a promotion cut."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.core.capture import Capture, CaptureBatch, partition_of
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.routing import Claim
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.settings import Settings
from shadowed_traffic import LIVE, MODEL, Stage, append, begin_next_epoch, staged, working
from version_servers import answering, diverging
from waiting import until

TERMS = SessionTerms(idle=60.0, turn="turn", wait=0.0)


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=3,
        worker_linger=0.05,
        report_interval=0.05,
    )


async def claim(stage: Stage, claims: Mapping[str, Claim], *, terms: SessionTerms = TERMS) -> None:
    """Set flags, and let the model have sessions."""
    engine = open_engine(str(stage.settings.database_url))
    try:
        async with PostgresControl(engine).change("test") as change:
            await change.put_model(replace(change.configuration.models[MODEL], sessions=terms))
            for name, value in claims.items():
                await change.put_flag(f"{MODEL}.{name}", claim_definition(MODEL, value), reason="test")
    finally:
        await engine.dispose()


def turns(stage: Stage, session: str, numbers: Sequence[int], *, at: float, **more: Any) -> list[Capture]:
    """Turns of one session, a second apart."""
    (like,) = stage.captures(1, session_id=session, in_session=True, **more)
    return [replace(like, request_id=f"{session}-{number}", turn=number, received_at=at + number) for number in numbers]


async def tick_everywhere(log: JetStreamLog, now: float) -> None:
    for partition in range(log.partitions):
        batch = CaptureBatch(router="test", captures=(), ticked_at=now)
        await log.append(partition, batch, message_id=f"tick-{partition}-{now}")


async def test_a_promotion_cuts_the_sessions_that_it_met_and_leaves_the_others_whole(settings: Settings) -> None:
    async with staged(settings, {"A": answering(), "B": diverging(1.0)}) as stage:
        await claim(stage, {LIVE: Claim.LIVE, "A": Claim.SHADOW, "B": Claim.SHADOW})
        now = time.time()
        async with working(settings):
            before = [
                *turns(stage, "over", (1, 2, 3), at=now - 1_000),
                *turns(stage, "met", (1, 2), at=now - 10),
                *turns(stage, "stayed", (1, 2), at=now - 10),
            ]
            await append(stage.log, before, per_message=2)
            await until(lambda: stage.counter("captures", equals=len(before)))
            await claim(stage, {"A": Claim.LIVE})
            promoted = await begin_next_epoch(stage, candidates=("A", "B"))
            after = turns(stage, "met", (3,), at=now, revision=promoted.from_revision)
            await append(stage.log, after)
            await until(lambda: stage.counter("captures", equals=len(before) + 1))
            await tick_everywhere(stage.log, now + 1_000)
            await until(stage.drained)
            ended = await stage.counts.family("session")
            assert ended == Counter({("", "ended"): 3, ("", "turns"): 7, ("A", "o"): 1, ("B", "b"): 1})
            cut = await stage.counts.family("session_cut")
            assert cut == Counter({(name, why): 1 for name in ("A", "B") for why in ("went_on", "other_epoch")})
            async with stage.counting(promoted) as counts:
                assert await counts.family("session_cut") == Counter({("A", "other_epoch"): 1, ("B", "other_epoch"): 1})
                assert await counts.family("session") == Counter({("", "ended"): 1, ("", "turns"): 1})


async def test_open_sessions_go_over_to_the_next_owner_and_end_once(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage:
        await claim(stage, {LIVE: Claim.LIVE, "A": Claim.SHADOW})
        now = time.time()
        sessions = [f"s-{number}" for number in range(12)]
        for owner, numbers in enumerate([(1, 2), (3, 4, 5)], start=1):
            async with working(settings, instance=f"worker-{owner}"):
                sent = [each for name in sessions for each in turns(stage, name, numbers, at=now)]
                await append(stage.log, sent, per_message=3)
                await until(stage.drained)
        async with working(settings, instance="worker-3"):
            await tick_everywhere(stage.log, now + 500)
            await tick_everywhere(stage.log, now + 600)
            await until(stage.drained)
        ended = await stage.counts.family("session")
        assert ended == Counter({("", "ended"): 12, ("", "turns"): 60, ("A", "o"): 12})
        assert await stage.counts.family("session_length") == Counter({("", "5"): 12})
        firsts = [capture for name in sessions for capture in turns(stage, name, (1,), at=now)]
        partitions = {partition_of(capture.partition_key, 3) for capture in firsts}
        assert len(partitions) > 1, "all sessions lay in one partition"
        assert stage.servers["A"].calls.total() == 60


async def test_a_session_ends_though_no_traffic_comes_any_more(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage:
        await claim(stage, {LIVE: Claim.LIVE, "A": Claim.SHADOW}, terms=replace(TERMS, idle=2.0))
        async with working(settings):
            await append(stage.log, turns(stage, "s", (1, 2), at=time.time() - 1_000))

            async def ended() -> bool:
                return (await stage.counts.family("session"))["", "ended"] == 1

            await until(ended)
        assert await stage.counts.family("session_length") == Counter({("", "2"): 1})
