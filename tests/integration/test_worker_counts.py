"""A worker over the real log, the real store and real version servers: what it calls, and what it counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import grpc
import pytest

from multishadow_server.core import latency
from multishadow_server.core.capture import CaptureBatch, DropTally, partition_of
from multishadow_server.core.noise_floor import NOISE
from multishadow_server.core.protocols import PREDICT_STREAM
from multishadow_server.core.segments import MOST_LEVELS
from multishadow_server.core.targeting import shadow_draw
from multishadow_server.settings import Settings
from shadowed_traffic import LIVE, MODEL, append, begin_next_epoch, move_version, staged, working
from version_servers import answering, diverges_on, diverging, failing, gated, hanging
from waiting import until


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=4,
        worker_linger=0.05,
        report_interval=0.05,
    )


async def test_every_capture_counts_once_for_every_shadow_by_what_it_did(settings: Settings) -> None:
    behaviours = {"A": answering(), "B": diverging(0.3), "C": failing(grpc.StatusCode.INTERNAL)}
    async with staged(settings, behaviours) as stage, working(settings):
        sent = stage.captures(200)
        await append(stage.log, sent)
        await stage.counts.reach(600)
        diverged = sum(diverges_on(capture.request_id, 0.3) for capture in sent)
        assert await stage.counts.outcomes() == Counter(
            {("A", "ok"): 200, ("B", "ok"): 200 - diverged, ("B", "diverged"): diverged, ("C", "error"): 200}
        )
        assert await stage.counts.family("error_reason") == Counter({("C", "INTERNAL"): 200})
        assert all(set(server.calls.values()) == {1} for server in stage.servers.values())
        await until(stage.drained)


async def test_streamed_requests_are_streamed_to_shadows_and_their_first_messages_timed(settings: Settings) -> None:
    async with staged(settings, {"A": answering(), "B": diverging(1.0)}) as stage, working(settings):
        await append(stage.log, stage.captures(10, method=PREDICT_STREAM, live_first_latency=0.002))
        await append(stage.log, stage.captures(5, prefix="unary"))
        await stage.counts.reach(30)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 15, ("B", "diverged"): 15})
        first = await stage.counts.family("first_latency")
        live = await stage.counts.family("live_first_latency")
        assert first.total() == 20
        assert live == Counter({(version, str(latency.bin_of(0.002))): 10 for version in ("A", "B")})


async def test_an_input_that_comes_again_is_counted_once_and_not_sent_again_by_later_owners_either(
    settings: Settings,
) -> None:
    async with staged(settings, {"A": answering(), "B": diverging(1.0)}) as stage:
        alike = b"12345678"
        async with working(settings):
            await append(stage.log, stage.captures(30, fingerprint=alike))
            await append(stage.log, stage.captures(1, prefix="another", fingerprint=b"87654321"))
            await stage.counts.reach(62)
        async with working(settings, instance="worker-2"):
            await append(stage.log, stage.captures(20, prefix="later", fingerprint=alike))
            await stage.counts.reach(102)
        expected = {("A", "ok"): 2, ("B", "diverged"): 2, ("A", "duplicate"): 49, ("B", "duplicate"): 49}
        assert await stage.counts.outcomes() == Counter(expected)
        assert await stage.counts.family("pair") == Counter({("A|B", "ob"): 2, ("A|B", "xx"): 49})
        assert [sum(server.calls.values()) for server in stage.servers.values()] == [2, 2]
        assert len(await stage.counts.stored()) == 2


async def test_requests_are_counted_by_kind_in_a_bounded_number_of_levels_over_all_owners(settings: Settings) -> None:
    async with staged(settings, {"A": diverging(1.0)}) as stage:
        for owner in range(2):
            async with working(settings, instance=f"worker-{owner}"):
                sent = [
                    replace(capture, attributes={"user": f"{owner}-{number}", "country": "NO\x00"})
                    for number, capture in enumerate(stage.captures(60, prefix=f"r{owner}"))
                ]
                await append(stage.log, sent)
                await stage.counts.reach(60 * (owner + 1))
        counted = await stage.counts.family("segment")
        assert counted["A", "attributes.country=NO\ufffd"] == 120
        users = {level: count for (_, level), count in counted.items() if level.startswith("attributes.user=")}
        assert sum(users.values()) == 120
        assert len(users) == MOST_LEVELS + 1
        assert users["attributes.user=(other)"] == 120 - MOST_LEVELS
        assert await stage.counts.family("segment_diverged") == counted


async def test_the_live_version_is_asked_again_on_its_share_and_is_no_candidate(settings: Settings) -> None:
    behaviours = {LIVE: diverging(0.5), "A": answering(), "B": diverging(1.0)}
    async with staged(settings, behaviours, noise_percent=40) as stage, working(settings):
        sent = stage.captures(200)
        await append(stage.log, sent)
        again = [item for item in sent if shadow_draw(MODEL, session_id="", request_id=item.request_id) < 0.4]
        assert 40 < len(again) < 120
        await stage.counts.reach(400 + len(again))
        await until(stage.drained)
        diverged = sum(diverges_on(item.request_id, 0.5) for item in again)
        assert await stage.counts.outcomes() == Counter(
            {
                ("A", "ok"): 200,
                ("B", "diverged"): 200,
                (NOISE, "ok"): len(again) - diverged,
                (NOISE, "diverged"): diverged,
            }
        )
        pairs = await stage.counts.family("pair")
        assert (pairs[f"A|{NOISE}", "oo"], pairs[f"A|{NOISE}", "ob"]) == (len(again) - diverged, diverged)
        assert pairs[f"B|{NOISE}", "bb"] == diverged
        assert await stage.counts.family("joint") == Counter({("A|B", "ob"): 200})
        assert set(stage.servers[LIVE].calls) == {item.request_id for item in again}
        assert all(metadata["x-shadow-deployment"] == "true" for metadata in stage.servers[LIVE].metadata)


async def test_an_input_that_live_failed_on_may_still_count(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(1, fingerprint=b"12345678", status_code=14))
        await append(stage.log, stage.captures(1, prefix="again", fingerprint=b"12345678"))
        await stage.counts.reach(1)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 1})


async def test_a_shadow_call_is_marked_and_carries_what_the_router_let_through(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        metadata = (("x-tenant", "t1"), ("trace-bin", b"\x00\xff"), ("x-shadow-deployment", "false"))
        await append(stage.log, stage.captures(1, metadata=metadata))
        await stage.counts.reach(1)
        (received,) = stage.servers["A"].metadata
        assert received["x-shadow-deployment"] == "true"
        assert received["x-multishadow-request-id"] == "r-0"
        assert received["x-tenant"] == "t1"
        assert received["trace-bin"] == b"\x00\xff"


async def test_a_request_id_beyond_ascii_reaches_the_shadow_percent_encoded(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(1, prefix="ключ"))
        await stage.counts.reach(1)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 1})
        assert stage.servers["A"].metadata[0]["x-multishadow-request-id"] == "%D0%BA%D0%BB%D1%8E%D1%87-0"


async def test_hung_shadows_time_out_and_hold_up_nobody_else(settings: Settings) -> None:
    behaviours = {"A": answering(), "B": hanging(), "C": hanging()}
    async with staged(settings, behaviours, call_seconds={"B": 2.0, "C": 2.0}) as stage, working(settings):
        await append(stage.log, stage.captures(60))
        await until(lambda: stage.servers["A"].calls.total() == 60)
        await stage.counts.reach(180)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 60, ("B", "timeout"): 60, ("C", "timeout"): 60})


async def test_more_calls_than_a_version_takes_are_dropped_and_counted_as_such(settings: Settings) -> None:
    async with staged(settings, {"A": hanging()}, call_seconds=0.3, max_in_flight=2) as stage, working(settings):
        await append(stage.log, stage.captures(40))
        await stage.counts.reach(40)
        outcomes = await stage.counts.outcomes()
        assert outcomes.total() == 40
        assert outcomes["A", "timeout"] + outcomes["A", "dropped"] == 40
        assert outcomes["A", "dropped"] > 0
        assert await stage.counts.family("dropped_reason") == Counter(
            {("A", "in_flight_limit"): outcomes["A", "dropped"]}
        )
        assert stage.servers["A"].most_at_once <= 2


async def test_a_slow_version_with_few_slots_is_waited_for_and_loses_nothing(settings: Settings) -> None:
    gate = asyncio.Event()
    async with staged(settings, {"A": gated(gate)}, max_in_flight=2) as stage, working(settings):
        await append(stage.log, stage.captures(20))
        await until(lambda: stage.servers["A"].under_way == 2)
        gate.set()
        await stage.counts.reach(20)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 20})


async def test_an_unreachable_shadow_counts_as_an_error_and_not_as_a_timeout(settings: Settings) -> None:
    async with staged(settings, {"A": answering(), "B": answering()}) as stage, working(settings):
        revision = await move_version(stage, "B", address="127.0.0.1:1")
        await append(stage.log, stage.captures(5, revision=revision))
        await stage.counts.reach(10)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 5, ("B", "error"): 5})
        assert await stage.counts.family("error_reason") == Counter({("B", "UNAVAILABLE"): 5})


async def test_a_capture_that_live_failed_calls_nobody_and_is_counted(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, [*stage.captures(3, status_code=14, response=b""), *stage.captures(2, prefix="s")])
        await stage.counts.reach(2)
        await until(stage.drained)
        assert await stage.counts.family("live") == Counter({("", "failed"): 3, ("", "answered"): 2})
        assert stage.servers["A"].calls.total() == 2


async def test_a_capture_newer_than_the_configuration_in_hand_finds_its_own_epoch(settings: Settings) -> None:
    async with staged(settings, {"A": answering(), "B": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(4, prefix="before"))
        await stage.counts.reach(8)
        second = await begin_next_epoch(stage, candidates=("B",))
        async with stage.counting(second) as second_counts:
            old, new = stage.captures(3, prefix="late"), stage.captures(5, prefix="new", revision=second.from_revision)
            await append(stage.log, [*new, *old])
            await second_counts.reach(5)
            await stage.counts.reach(14)
            assert await second_counts.outcomes() == Counter({("B", "ok"): 5})
            assert await stage.counts.outcomes() == Counter({("A", "ok"): 7, ("B", "ok"): 7})
        assert stage.servers["A"].calls.total() == 7, "A is no candidate of the second epoch, so nobody calls it"


async def test_captures_outside_any_experiment_call_nobody_and_are_seen_in_the_counters(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await append(stage.log, stage.captures(3, live="A", shadows=(LIVE,)))
        await append(stage.log, stage.captures(2, prefix="s", shadows=("A", "Z")))
        await stage.counts.reach(2)
        await until(lambda: stage.counter("captures.no_experiment", equals=3))
        await until(lambda: stage.counter("not_a_candidate", equals=2))
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 2})


async def test_drops_that_rode_the_log_are_counted_with_their_reason(settings: Settings) -> None:
    async with staged(settings, {"A": answering(), "B": answering()}) as stage, working(settings):
        drop = DropTally(
            model=MODEL,
            live=LIVE,
            shadows=("A", "B", "Z"),
            revision=stage.epoch.from_revision,
            reason="buffer_full",
            count=7,
            received_at=time.time(),
        )
        await stage.log.append(0, CaptureBatch(router="r", captures=(), drops=(drop,)), message_id="drop-1")
        await stage.counts.reach(14)
        assert await stage.counts.outcomes() == Counter({("A", "dropped"): 7, ("B", "dropped"): 7})
        assert await stage.counts.family("dropped_reason") == Counter(
            {("A", "buffer_full"): 7, ("B", "buffer_full"): 7}
        )


async def test_a_message_that_nobody_can_read_is_passed_over(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        after = stage.captures(1)[0]
        partition = partition_of(after.partition_key, 4)
        await stage.client.jetstream().publish(f"{settings.log_name}.{partition}", b"\xff\xff no capture")
        await append(stage.log, [after])
        await stage.counts.reach(1)
        await until(stage.drained)
        await until(lambda: stage.counter("unreadable_message", equals=1))


async def test_divergent_comparisons_are_stored_up_to_the_hours_quota(settings: Settings) -> None:
    few = settings.model_copy(update={"kept_divergent_per_hour": 8, "kept_sample_per_hour": 0})
    async with staged(few, {"A": answering("no")}) as stage, working(few):
        await append(stage.log, stage.captures(100))
        await stage.counts.reach(100)
        stored = await stage.counts.stored()
        assert {why for _, why in stored} == {"diverged"}
        assert len(stored) == len({request_id for request_id, _ in stored}) == 8


async def test_what_a_database_refuses_to_store_still_counts(settings: Settings) -> None:
    async with staged(settings, {"A": answering("no")}) as stage, working(settings):
        odd = stage.captures(3, attributes={"name": "a\x00b"}, session_id="s\x00", status_message="\x00")
        await append(stage.log, odd)
        await stage.counts.reach(3)
        assert await stage.counts.outcomes() == Counter({("A", "diverged"): 3})


async def test_a_worker_that_stops_finishes_what_is_under_way(settings: Settings) -> None:
    gate = asyncio.Event()
    async with staged(settings, {"A": gated(gate)}) as stage:
        async with working(settings) as stop:
            await append(stage.log, stage.captures(20))
            await until(lambda: stage.servers["A"].under_way == 20)
            stop.set()
            gate.set()
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 20})
        await until(stage.drained)


async def test_what_a_stopping_worker_abandons_is_done_by_the_next(settings: Settings) -> None:
    gate = asyncio.Event()
    hasty = settings.model_copy(update={"drain_seconds": 0.1})
    async with staged(settings, {"A": gated(gate)}) as stage:
        async with working(hasty):
            await append(stage.log, stage.captures(20))
            await until(lambda: stage.servers["A"].under_way == 20)
        assert (await stage.counts.outcomes()).total() == 0
        gate.set()
        async with working(settings, instance="worker-2"):
            await stage.counts.reach(20)
            await until(stage.drained)
        assert await stage.counts.outcomes() == Counter({("A", "ok"): 20})
