"""A worker keeps to the limits of versions: over the real log, the real store and real version servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import grpc
import pytest

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.postgres import PostgresControl
from multishadow_server.adapters.postgres.live_counts import PostgresLiveCounts
from multishadow_server.adapters.postgres.live_totals import PostgresLiveTotals
from multishadow_server.core.live_counts import LiveCounts, Share
from multishadow_server.core.live_rates import Counted
from multishadow_server.core.model import Model
from multishadow_server.core.version_limits import CircuitTerms, VersionLimits
from multishadow_server.core.writes import Writes
from multishadow_server.service import pausing
from multishadow_server.settings import Settings
from shadowed_traffic import MODEL, Stage, append, staged, working
from store_fixtures import opened
from version_servers import Behaviour, Context, answering, labelled
from waiting import PATIENCE, until


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


def breakable(broken: asyncio.Event) -> Behaviour:
    """UNAVAILABLE while it is broken."""

    async def predict(_request: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        if broken.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        return labelled("yes")

    return predict


async def limit(stage: Stage, version: str, limits: VersionLimits) -> int:
    """Register these limits of a version; returns the revision, which workers know by then."""
    async with opened(str(stage.settings.database_url)) as engine, PostgresControl(engine).change("test") as change:
        model = change.configuration.models[MODEL]
        found = model.version(version)
        assert found is not None
        await change.put_versions(replace(model, versions=(replace(found, limits=limits),)))
        return change.revision


async def change_model(stage: Stage, **settings: object) -> None:
    """Register other settings of the model."""
    async with opened(str(stage.settings.database_url)) as engine, PostgresControl(engine).change("test") as change:
        model: Model = replace(change.configuration.models[MODEL], **settings)  # type: ignore[arg-type]  # by name
        await change.put_model(model)


async def outcomes_of(stage: Stage, version: str) -> Counter[str]:
    """What became of a version's copies; dropped ones by their reason."""
    counted = {level: n for (name, level), n in (await stage.counts.outcomes()).items() if name == version}
    reasons = {
        level: n for (name, level), n in (await stage.counts.family("dropped_reason")).items() if name == version
    }
    assert counted.pop("dropped", 0) == sum(reasons.values())
    return Counter(counted) + Counter(reasons)


async def test_a_shadow_that_fails_is_left_in_peace_tried_and_called_again(settings: Settings) -> None:
    broken = asyncio.Event()
    broken.set()
    async with staged(settings, {"A": breakable(broken), "B": answering()}) as stage:
        revision = await limit(stage, "A", VersionLimits(circuit=CircuitTerms(failures=5)))
        async with working(settings):
            await append(stage.log, stage.captures(60, revision=revision), per_message=1)
            await stage.counts.reach(120)
            down = await outcomes_of(stage, "A")
            assert down["error"] + down["circuit_open"] == 60
            assert down["circuit_open"] > 0
            assert stage.servers["A"].calls.total() == down["error"]
            await until(lambda: stage.counter(f"circuit_open.{MODEL}.A", equals=1))
            broken.clear()
            began, sent = time.monotonic(), 60
            while not (await outcomes_of(stage, "A"))["ok"]:
                await append(stage.log, stage.captures(4, prefix=f"again-{sent}", revision=revision))
                sent += 4
                await stage.counts.reach(2 * sent)
                assert time.monotonic() - began < PATIENCE
            await append(stage.log, stage.captures(20, prefix="well", revision=revision))
            await stage.counts.reach(2 * (sent + 20))
            assert (await outcomes_of(stage, "A"))["ok"] >= 20
            assert (await outcomes_of(stage, "A")).total() == sent + 20
            assert await outcomes_of(stage, "B") == Counter({"ok": sent + 20})
            await until(lambda: stage.counter(f"circuit_open.{MODEL}.A", equals=0))


async def test_two_workers_together_keep_to_a_rate_and_every_copy_is_counted(settings: Settings) -> None:
    async with staged(settings, {"A": answering(), "B": answering()}) as stage:
        revision = await limit(stage, "A", VersionLimits(requests_per_second=20))
        async with working(settings), working(settings, instance="worker-2"):
            await until(lambda: stage.partitions_of("worker-1", equals=2))
            await until(lambda: stage.partitions_of("worker-2", equals=2))
            began = time.monotonic()
            await append(stage.log, stage.captures(300, revision=revision))
            await stage.counts.reach(600)
            of_a = await outcomes_of(stage, "A")
            assert of_a.total() == 300
            assert 5 < of_a["ok"] <= 20 * (time.monotonic() - began) + 20
            assert of_a.keys() == {"ok", "rate_limit"}
            assert stage.servers["A"].calls.total() == of_a["ok"]
            assert await outcomes_of(stage, "B") == Counter({"ok": 300})
            await until(lambda: stage.counter("dropped.rate_limit", equals=of_a["rate_limit"]))


async def test_a_pause_reaches_a_worker_within_a_second_though_nothing_newer_is_in_the_log(settings: Settings) -> None:
    # Longer than the test: only an announcement can bring it.
    slow = settings.model_copy(update={"flag_check_interval": 600.0})
    async with staged(slow, {"A": answering(), "B": answering()}) as stage, opened(str(slow.database_url)) as engine:
        store = PostgresControl(engine)
        async with working(slow):
            await append(stage.log, stage.captures(10, prefix="before"))
            await stage.counts.reach(20)
            await pausing.pause(store, model=MODEL, version="A", seconds=None, actor="ann", reason="")
            paused_at, sent = time.monotonic(), 10
            while not (await outcomes_of(stage, "A"))["paused"]:
                await append(stage.log, stage.captures(1, prefix=f"during-{sent}"))
                sent += 1
                await stage.counts.reach(2 * sent)
            assert time.monotonic() - paused_at < PATIENCE, "a second, on a machine that is not busy"
            calls = stage.servers["A"].calls.total()
            await append(stage.log, stage.captures(20, prefix="paused"))
            await stage.counts.reach(2 * (sent + 20))
            assert stage.servers["A"].calls.total() == calls
            await pausing.resume(store, model=MODEL, version="A", actor="ann", reason="")
            sent += 20
            while stage.servers["A"].calls.total() == calls:
                await append(stage.log, stage.captures(1, prefix=f"after-{sent}"))
                sent += 1
                await stage.counts.reach(2 * sent)
            of_a = await outcomes_of(stage, "A")
            assert of_a.keys() == {"ok", "paused"}
            assert (of_a.total(), of_a["ok"]) == (sent, stage.servers["A"].calls.total())
            assert await outcomes_of(stage, "B") == Counter({"ok": sent})


async def test_captures_of_a_model_that_was_marked_as_writing_since_call_nobody_and_are_counted(
    settings: Settings,
) -> None:
    async with staged(settings, {"A": answering(), "B": answering()}) as stage:
        await append(stage.log, stage.captures(10))
        await change_model(stage, writes=Writes(all=True))
        async with working(settings):
            await stage.counts.reach(20)
            assert await outcomes_of(stage, "A") == await outcomes_of(stage, "B") == Counter({"writes": 10})
            assert not stage.servers["A"].calls + stage.servers["B"].calls
            await until(lambda: stage.counter("dropped.writes", equals=20))


async def test_live_counts_are_read_by_who_counts_them_now(database_url: str) -> None:
    async with opened(database_url) as engine:
        counts, totals = PostgresLiveCounts(engine), PostgresLiveTotals(engine)
        await counts.save("r1", {Share("spam", "A", 3): LiveCounts(requests=10), Share("ham", "A", 3): LiveCounts()})
        await counts.save("r2", {Share("spam", "A", 3): LiveCounts(requests=5)})
        found, fresh = await totals.requests(["spam"], began_within=60.0)
        assert found == {Counted("spam", "A", 3, "r1"): 10, Counted("spam", "A", 3, "r2"): 5}
        assert fresh == found.keys()
        assert (await totals.requests(["spam"], began_within=0.0))[1] == frozenset()
