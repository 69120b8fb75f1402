"""Experiments kept to their schedules: ramps that climb, windows that open and close, time boxes that end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psycopg
import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations, PostgresProcesses
from multishadow_server.adapters.processes import multishadow
from multishadow_server.core import windows
from multishadow_server.core.experiment import Experiment
from multishadow_server.core.flags import describe
from multishadow_server.core.model_spec import ModelSpec, VersionSpec
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.routing import Claim
from multishadow_server.core.schedule import Progress, Schedule
from multishadow_server.service import experiments, flags, models, steering
from multishadow_server.service.ports import Flush, ProcessStatus
from multishadow_server.service.steering import Move
from running_control import asked, control_address, refused
from sightings import rollup_of
from store_fixtures import opened, rows
from waiting import PATIENCE, until

HOUR = 3_600.0
RAMP = Schedule(ramp=(1, 5, 25), dwell=1_800)
WORKER = ProcessStatus(role="worker", instance="w", host="h", pid=7, started_at=0, revision=1, counters={"lag_ms": 40})


def clock_time(seconds_from_now: float) -> str:
    """A wall clock's time in UTC."""
    return f"{datetime.fromtimestamp(time.time() + seconds_from_now, UTC):%H:%M}"


def window(opens: float, closes: float) -> windows.Window:
    """From when until when, in seconds from now; a minute or two off."""
    return windows.parse(f"{clock_time(opens)}-{clock_time(closes)}")


OPEN, CLOSED = (-2 * HOUR, 2 * HOUR), (2 * HOUR, 4 * HOUR)


@dataclass(frozen=True, kw_only=True)
class World:
    """The model spam with base, A and B, and its experiment."""

    url: str
    store: PostgresControl

    async def start(self, schedule: Schedule, *, percent: float = 25, duration: float = 100 * HOUR) -> Experiment:
        spec = ModelSpec(
            name="spam", versions=tuple(VersionSpec(name=name, address="127.0.0.1:9") for name in ("base", "A", "B"))
        )
        await models.apply_model(self.store, spec, actor="ada")
        terms = experiments.Terms(
            model="spam", candidates=("A", "B"), percent=percent, duration=duration, schedule=schedule
        )
        return (await experiments.start_experiment(self.store, terms, actor="ada"))[0]

    async def steer(self, *, later: float = 0.0) -> list[Move]:
        return await steering.steer(self.store, clock=lambda: time.time() + later)

    async def experiment(self) -> Experiment:
        (found,) = await self.store.experiments()
        return found

    async def waits_for(self, *, later: float = 0.0) -> tuple[str, ...]:
        outlook = await steering.outlook(self.store, await self.experiment(), now=time.time() + later)
        return outlook.waits_for

    async def claims(self) -> dict[str, str]:
        return {each.key.removeprefix("spam."): describe(each.definition) for each in await self.store.flags()}

    async def set_by_hand(self, version: str, claim: Claim, percent: float = 100.0) -> None:
        await flags.set_flag(self.store, model="spam", version=version, claim=claim, percent=percent, actor="ada")

    async def report_worker(self, **counters: int) -> None:
        """Let a worker say how it is, now and for the next hour."""
        async with opened(self.url) as engine:
            await PostgresProcesses(engine).report(replace(WORKER, counters={**WORKER.counters, **counters}))
        with psycopg.connect(self.url) as connection:
            connection.execute("UPDATE process SET seen_at = seen_at + interval '1 hour' WHERE role = 'worker'")

    async def count(self, rollup: Rollup, *, batch: int = 1) -> None:
        """Commit what a worker would have counted in the last epoch."""
        epoch = (await self.store.read()).epochs[-1]
        start = int(epoch.opened_at // HOUR) * int(HOUR)
        flush = Flush(
            log_id="log", partition=0, previous_offset=batch - 1, offset=batch, rollups={(epoch.id, start): rollup}
        )
        async with opened(self.url) as engine:
            await PostgresObservations(engine).commit(flush)

    async def be_well(self) -> None:
        await self.report_worker()
        await self.count(rollup_of(("A", "B"), {"oo": 200}))

    def move_windows(self, opens: float, closes: float) -> None:
        """What the passing of hours does, at once."""
        with psycopg.connect(self.url) as connection:
            moved = json.dumps([str(window(opens, closes))])
            connection.execute("UPDATE experiment SET schedule = jsonb_set(schedule, '{windows}', %s)", [moved])


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with opened(database_url) as engine:
        yield World(url=database_url, store=PostgresControl(engine))


def written(url: str, version: str) -> list[tuple[int, str]]:
    """Revision and claim of everything that a version's flag ever said."""
    query = f"SELECT revision, definition FROM flag_revision WHERE key = 'spam.{version}' ORDER BY revision"
    return [(revision, describe(definition)) for revision, definition in rows(url, query)]


# --- ramps --------------------------------------------------------------------------------------------------------


async def test_candidates_climb_together_in_one_revision_a_step(world: World) -> None:
    await world.start(RAMP)
    assert await world.claims() == {"base": "live", "A": "shadow 1 %", "B": "shadow 1 %"}
    await world.be_well()
    assert await world.steer(later=1_700) == []
    (move,) = await world.steer(later=1_900)
    assert (move.words, move.experiment.present_percent) == ("experiment 1: step 2 of 3, 5 %", 5)
    assert await world.steer(later=1_700) == []
    await world.count(rollup_of(("A", "B"), {"oo": 200}), batch=2)
    (move,) = await world.steer(later=1_900)
    assert await world.steer(later=100 * HOUR) == []
    climbed = [(2, "shadow 1 %"), (3, "shadow 5 %"), (4, "shadow 25 %")]
    assert written(world.url, "A")[1:] == climbed
    assert written(world.url, "B")[1:] == climbed
    assert len((await world.store.read()).epochs) == 1
    assert rows(world.url, "SELECT detail->>'what' FROM audit_log WHERE action = 'steer_experiment'") == [
        ("experiment 1: step 2 of 3, 5 %",),
        ("experiment 1: step 3 of 3, 25 %",),
    ]


async def test_what_flags_tell_people_outlasts_a_ramp_and_does_not_stop_it(world: World) -> None:
    await world.start(replace(RAMP, dwell=1))
    await world.be_well()
    for record in await world.store.flags():
        async with world.store.change("ada") as change:
            await change.put_flag(record.key, {**record.definition, "metadata": {"owner": "mail"}}, reason="")
    assert len(await world.steer(later=2)) == 1
    assert await world.claims() == {"base": "live", "A": "shadow 5 %", "B": "shadow 5 %"}
    await experiments.stop_experiment(world.store, model="spam", actor="ada", reason="")
    assert await world.claims() == {"base": "live", "A": "off", "B": "off"}
    assert [record.definition["metadata"] for record in await world.store.flags()] == [{"owner": "mail"}] * 3


async def test_a_promotion_that_is_taken_back_comes_back_to_where_the_ramp_is(world: World) -> None:
    async with control_address(world.url) as address, asked(address) as control:
        await world.start(RAMP)
        await world.be_well()
        await control.promote("A", percent=5)
        assert len(await world.steer(later=1_900)) == 1
        assert await world.claims() == {"base": "live", "A": "live 5 % (else shadow)", "B": "shadow 5 %"}
        await control.rollback()
        assert await world.claims() == {"base": "live", "A": "shadow 5 %", "B": "shadow 5 %"}
        # What somebody set by hand is theirs, and stays what it was.
        await world.set_by_hand("A", Claim.SHADOW, 3)
        await control.promote("A", percent=5)
        await control.rollback()
        assert (await world.claims())["A"] == "shadow 3 %"


async def test_several_controls_make_a_step_once(world: World) -> None:
    await world.start(RAMP)
    await world.be_well()
    moves = await asyncio.gather(*(world.steer(later=1_900) for _ in range(6)))
    assert sum(map(len, moves)) == 1
    assert written(world.url, "A")[1:] == [(2, "shadow 1 %"), (3, "shadow 5 %")]


async def test_a_step_waits_for_workers_and_says_so(world: World) -> None:
    await world.start(RAMP)
    await world.count(rollup_of(("A", "B"), {"oo": 200}))
    assert await world.waits_for(later=1_900) == ("a worker: none reports itself",)
    assert await world.steer(later=1_900) == []
    await world.report_worker(lag_ms=90_000)
    assert await world.waits_for(later=1_900) == ("workers to catch up: they are 90 s behind",)
    assert await world.steer(later=1_900) == []


async def test_a_step_waits_for_candidates_that_fail_and_goes_on_when_nothing_is_proven_against_them(
    world: World,
) -> None:
    await world.start(replace(RAMP, dwell=1))
    await world.report_worker()
    assert await world.waits_for(later=2) == ("A: a first answer at this step", "B: a first answer at this step")
    failing = Rollup({Cell(Family.OUTCOME, "B", "error"): 50})
    await world.count(rollup_of(("A", "B"), {"oo": 150}) + failing)
    assert await world.waits_for(later=2) == ("B: fewer failures: 50 of 200 calls, proven above 1 %",)
    assert await world.steer(later=2) == []
    await world.set_by_hand("B", Claim.OFF)
    assert len(await world.steer(later=2)) == 1
    assert await world.claims() == {"base": "live", "A": "shadow 5 %", "B": "off"}


async def test_what_was_set_by_hand_or_promoted_is_left_alone(world: World) -> None:
    await world.start(replace(RAMP, dwell=1))
    await world.be_well()
    await world.set_by_hand("A", Claim.SHADOW, 2)
    assert len(await world.steer(later=2)) == 1
    assert await world.claims() == {"base": "live", "A": "shadow 2 %", "B": "shadow 5 %"}


async def test_a_ramp_leaves_the_sample_ratio_testable(world: World) -> None:
    async with control_address(world.url) as address, asked(address) as control:
        await world.start(replace(RAMP, dwell=1))
        await world.be_well()
        await world.steer(later=2)
        found: pb.ListGatesResponse = await control.stub.ListGates(pb.ListGatesRequest(model="spam"))
        for review in found.reviews:
            (gate,) = (gate for gate in review.gates if gate.name == "sample_ratio")
            assert gate.state == "pass"
            assert "assigned: gap 0 %" in gate.number


async def test_a_ramp_is_started_and_shown_through_the_api(database_url: str) -> None:
    async with control_address(database_url) as address, asked(address) as control:
        await control.apply("base", "A")
        async with refused(StatusCode.INVALID_ARGUMENT, "ramp: each step must be larger"):
            await control.start("A", ramp_percent=[5, 1])
        async with refused(StatusCode.INVALID_ARGUMENT, "percent", "too fine"):
            await control.start("A", ramp_percent=[0.00001, 1])
        async with refused(StatusCode.INVALID_ARGUMENT, "ramp: 3 steps that last 1800 s each leave no time"):
            await control.start("A", ramp_percent=[1, 5, 25], duration_seconds=3_600)
        async with refused(StatusCode.INVALID_ARGUMENT, 'windows: "Mars/Olympus" is no time zone'):
            await control.start("A", windows=["22:00-06:00 Mars/Olympus"])
        assert await control.flags() == {"base": "live", "A": "off"}
        started = (await control.start("A", ramp_percent=[1, 5, 25])).experiment
        assert started.percent == 25
        (listed,) = (await control.stub.ListExperiments(pb.ListExperimentsRequest())).experiments
        for shown in (started.schedule, listed.schedule, (await control.compare()).experiment.schedule):
            assert (shown.step, shown.present_percent, shown.dwell_seconds) == (1, 1, 1_800)
            assert list(shown.ramp_percent) == [1, 5, 25]
            assert list(shown.waits_for) == ["30 min more at 1 %"]
            assert shown.open


def control_process(url: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "MULTISHADOW_DATABASE_URL": url}
    return subprocess.Popen(
        multishadow("control", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"), env=environment
    )


async def test_a_ramp_survives_controls_that_are_killed(world: World) -> None:
    await world.start(Schedule(ramp=(1, 2, 3), dwell=1), percent=3)
    await world.report_worker()

    async def climb(to: int, *, controls: int) -> None:
        await world.count(rollup_of(("A", "B"), {"oo": 10}), batch=to)

        async def climbed() -> bool:
            progress = (await world.experiment()).progress
            return progress is not None and progress.step == to

        running = [control_process(world.url) for _ in range(controls)]
        try:
            await until(climbed)
        finally:
            for process in running:
                process.kill()
                process.wait(PATIENCE)

    await climb(1, controls=2)
    await climb(2, controls=1)
    climbed_by = [(2, "shadow 1 %"), (3, "shadow 2 %"), (4, "shadow 3 %")]
    assert written(world.url, "A")[1:] == climbed_by
    assert written(world.url, "B")[1:] == climbed_by


# --- windows ------------------------------------------------------------------------------------------------------


async def test_outside_its_windows_an_experiment_starts_without_shadows(world: World) -> None:
    started = await world.start(Schedule(windows=(window(*CLOSED),)))
    assert started.present_percent == 0
    assert await world.claims() == {"base": "live", "A": "off", "B": "off"}
    assert await world.steer() == []
    world.move_windows(*OPEN)
    moves = await asyncio.gather(*(world.steer() for _ in range(3)))
    assert [move.words for made in moves for move in made] == ["experiment 1: its window opened"]
    assert await world.claims() == {"base": "live", "A": "shadow 25 %", "B": "shadow 25 %"}
    assert len((await world.store.read()).epochs) == 1


async def test_a_window_that_closes_takes_all_its_shadows_off_and_no_more_comes_back_than_was_there(
    world: World,
) -> None:
    await world.start(Schedule(windows=(window(*OPEN),)))
    await world.set_by_hand("A", Claim.SHADOW, 50)
    await world.set_by_hand("B", Claim.OFF)
    world.move_windows(*CLOSED)
    assert [move.words for move in await world.steer()] == ["experiment 1: its window closed"]
    assert await world.claims() == {"base": "live", "A": "off", "B": "off"}
    assert await world.steer() == []
    world.move_windows(*OPEN)
    await world.steer()
    assert await world.claims() == {"base": "live", "A": "shadow 25 %", "B": "off"}


async def test_a_promoted_candidate_is_no_business_of_a_window(world: World) -> None:
    await world.start(Schedule(windows=(window(*OPEN),)))
    async with control_address(world.url) as address, asked(address) as control:
        await control.promote("A", percent=5)
    world.move_windows(*CLOSED)
    await world.steer()
    assert await world.claims() == {"base": "live", "A": "live 5 % (else shadow)", "B": "off"}


async def test_a_promotion_that_is_taken_back_outside_the_windows_shadows_from_the_next_one_on(world: World) -> None:
    async with control_address(world.url) as address, asked(address) as control:
        await world.start(Schedule(windows=(window(*OPEN),)))
        await control.promote("A", percent=5)
        world.move_windows(*CLOSED)
        await world.steer()
        await control.rollback()
        assert await world.claims() == {"base": "live", "A": "off", "B": "off"}
        world.move_windows(*OPEN)
        await world.steer()
        assert await world.claims() == {"base": "live", "A": "shadow 25 %", "B": "shadow 25 %"}


async def test_a_window_reopens_at_the_step_that_the_ramp_had_come_to(world: World) -> None:
    await world.start(replace(RAMP, dwell=1, windows=(window(*OPEN),)))
    await world.be_well()
    await world.steer(later=2)
    world.move_windows(*CLOSED)
    assert await world.waits_for(later=2) == ("a window to open",)
    await world.steer()
    world.move_windows(*OPEN)
    await world.steer()
    assert await world.claims() == {"base": "live", "A": "shadow 5 %", "B": "shadow 5 %"}
    progress = (await world.experiment()).progress
    assert progress is not None
    assert (progress.step, progress.percent) == (1, 5)


async def test_windows_reach_the_workers_with_the_epoch(world: World) -> None:
    chosen = window(*OPEN)
    started = await world.start(Schedule(windows=(chosen,)))
    (epoch,) = (await world.store.read()).epochs
    assert epoch.windows == (chosen,)
    assert epoch.ends_at == pytest.approx(started.ends_at)
    assert epoch.collects_at(time.time())
    assert not epoch.collects_at(started.ends_at)


async def test_the_minimum_duration_tells_how_much_of_it_was_inside_windows(world: World) -> None:
    async with control_address(world.url) as address, asked(address) as control:
        await world.start(Schedule(windows=(window(-1 * HOUR, 1 * HOUR),)))
        with psycopg.connect(world.url) as connection:
            connection.execute("UPDATE epoch SET opened_at = opened_at - interval '71 hours'")
            # The first capture: the window that had just closed when the epoch opened opened again 22 hours later.
            connection.execute(
                "INSERT INTO rollup (epoch_id, bucket_start, family, subject, level, n) "
                "SELECT id, date_trunc('hour', opened_at + interval '22 hours'), 'outcome', 'A', 'ok', 1 FROM epoch"
            )
        found: pb.ListGatesResponse = await control.stub.ListGates(pb.ListGatesRequest(model="spam", candidates=["A"]))
        (gate,) = (gate for gate in found.reviews[0].gates if gate.name == "minimum_duration")
        assert gate.number == "2 d, 5 h of it inside windows"


# --- time boxes ---------------------------------------------------------------------------------------------------


async def end_time_box(world: World, *, ago: float) -> list[Experiment]:
    with psycopg.connect(world.url) as connection:
        connection.execute("UPDATE experiment SET ends_at = clock_timestamp() - make_interval(secs => %s)", [ago])
    return await experiments.end_overdue(world.store, clock=time.time)


async def test_a_time_box_ends_shadows_that_were_set_by_hand_or_promoted_in_part(world: World) -> None:
    await world.start(Schedule())
    await world.set_by_hand("B", Claim.SHADOW, 50)
    async with control_address(world.url) as address, asked(address) as control:
        await control.promote("A", percent=5)
    assert await world.claims() == {"base": "live", "A": "live 5 % (else shadow)", "B": "shadow 50 %"}
    before = (await world.store.read()).flags["spam.A"]["targeting"]["fractional"][0]
    (ended,) = await end_time_box(world, ago=1)
    assert await world.claims() == {"base": "live", "A": "live 5 %", "B": "off"}
    # Whoever has A keeps it.
    assert (await world.store.read()).flags["spam.A"]["targeting"]["fractional"][0] == before
    assert ended.stop_reason.startswith("time box of ")
    assert not any(epoch.until_revision is None for epoch in (await world.store.read()).epochs)


async def test_a_time_box_that_ended_while_control_was_down_is_ended_late_and_says_so(world: World) -> None:
    await world.start(RAMP, duration=4 * HOUR)
    with psycopg.connect(world.url) as connection:
        connection.execute("UPDATE experiment SET started_at = ends_at - interval '4 hours'")
        connection.execute(
            "UPDATE experiment SET started_at = started_at - interval '7 hours', ends_at = ends_at - interval '7 hours'"
        )
    async with control_address(world.url), control_address(world.url):

        async def ended() -> bool:
            return not (await world.experiment()).running

        await until(ended)
    assert (await world.experiment()).stop_reason == (
        "time box of 4 h ended 3 h before this was noticed; nothing was counted since"
    )
    assert await world.claims() == {"base": "live", "A": "off", "B": "off"}
    assert rows(world.url, "SELECT count(*) FROM audit_log WHERE action = 'stop_experiment'") == [(1,)]


async def test_a_ramp_does_not_climb_past_the_end_of_its_time_box(world: World) -> None:
    await world.start(replace(RAMP, dwell=1))
    await world.be_well()
    with psycopg.connect(world.url) as connection:
        connection.execute("UPDATE experiment SET ends_at = clock_timestamp()")
    assert await world.steer(later=2) == []


async def test_progress_is_stored_as_it_is(world: World) -> None:
    experiment = await world.start(RAMP)
    progress = Progress(step=1, since=1_795_435_200.123456, percent=5, set_aside=("B",), epoch_id=4)
    async with world.store.change("control") as change:
        await change.put_progress(experiment, progress)
    found = await world.experiment()
    assert found.progress == progress
    assert found.schedule == RAMP
    assert (await world.store.read()).revision == 2
