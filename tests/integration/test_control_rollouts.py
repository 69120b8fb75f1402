"""Staged rollouts through the control API, on a real store; what routers report is written as they write it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc.aio
import psycopg
import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2, rollouts_pb2
from multishadow_server.adapters.postgres import PostgresControl, PostgresRollouts
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.rollout import Decision, Move
from multishadow_server.core.routing import Claim
from multishadow_server.errors import Conflict
from multishadow_server.service import rollout_moves
from rolling_out import WHY, Rollouts, RouterReports, rolling_out, served
from routers import set_flag
from running_control import control_address, refused
from store_fixtures import opened, rows
from waiting import PATIENCE, until

ENOUGH = 1_000


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Rollouts]:
    async with rolling_out(database_url) as client:
        await client.apply("base", "A", "B")
        yield client


@pytest.fixture
def router(database_url: str) -> RouterReports:
    return RouterReports(database_url=database_url)


async def faultless(control: Rollouts, router: RouterReports, percent: float) -> None:
    """Wait for a stage, and report as many requests of both versions as it needs."""
    rollout = (await control.until_percent(percent)).rollout
    await router.count(rollout.stage_revision, A=served(ENOUGH), base=served(ENOUGH))


async def test_a_version_that_keeps_every_guardrail_climbs_stage_by_stage_and_completes(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    started = await control.roll_out()
    assert (started.state, started.percent, started.previous_version) == ("running", 10, "base")
    assert await control.flags() == {"base": "live", "A": "live 10 % (else shadow)", "B": "off"}
    for percent in (10, 50, 100):
        await faultless(control, router, percent)
    done = await control.until_state("completed")
    assert await control.moves() == [("start", 10), ("advance", 50), ("advance", 100), ("complete", 100)]
    assert await control.live() == "A"
    assert [event.actor for event in done.events] == ["ada", "control", "control", "control"]
    # What a stage was left by stands in its record.
    assert {guardrail.name: guardrail.standing for guardrail in done.events[1].findings} == {
        "errors": "kept", "latency": "kept", "divergence": "unwatched", "accuracy": "unwatched",
    }  # fmt: skip
    written = rows(database_url, "SELECT key FROM flag_revision WHERE revision > 1 ORDER BY revision, key")
    assert written == [("spam.A",)] * 3
    # All of its stages were one promotion.
    assert (await control.rollback()).version == "base"
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}


async def test_a_stage_waits_for_evidence_and_says_for_which(control: Rollouts, router: RouterReports) -> None:
    rollout = await control.roll_out()
    view = await control.seen()
    assert (view.next, view.rollout.percent) == ("hold", 10)
    assert "more requests for errors" in view.next_why
    await router.count(rollout.stage_revision, A=served(30), base=served(ENOUGH))
    errors = next(each for each in (await control.seen()).guardrails if each.name == "errors")
    assert (errors.standing, errors.new, errors.base) == ("waiting", "0 of 30 failed", "0 of 1,000 failed")
    assert errors.upper > 0.05
    assert errors.lower < 0


async def test_a_router_that_does_not_follow_holds_a_stage_and_is_named(
    control: Rollouts, router: RouterReports
) -> None:
    await router.acknowledge(1)
    rollout = await control.roll_out()
    await router.count(rollout.stage_revision, A=served(ENOUGH), base=served(ENOUGH))
    view = await control.seen()
    assert (view.next, list(view.stragglers)) == ("hold", ["router-1 on host-a"])
    assert "not acknowledged by router-1 on host-a" in view.next_why
    await router.acknowledge(rollout.stage_revision)
    await control.until_percent(50)


async def test_a_severe_breach_goes_back_to_the_base_at_once(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    rollout = await control.roll_out(dwell_seconds=3_600.0)
    assert (await control.seen()).next == "wait"
    await router.count(rollout.stage_revision, A=served(60, failed=60), base=served(540))
    aborted = await control.until_state("aborted")
    assert "severe: errors" in aborted.rollout.note
    assert [event.revision for event in aborted.events] == [rollout.stage_revision, rollout.stage_revision + 1]
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}
    assert await control.moves() == [("start", 10), ("abort", 0)]
    lines = rows(database_url, "SELECT actor, action FROM audit_log WHERE action LIKE 'rollout%' ORDER BY id")
    assert lines == [("ada", "rollout_start"), ("control", "rollout_abort")]
    # It was this promotion, and it is taken back already.
    async with refused(StatusCode.FAILED_PRECONDITION, "no promotion of spam is left"):
        await control.rollback()


async def test_what_is_worse_falls_back_a_stage_and_is_given_up_at_the_second_time(
    control: Rollouts, router: RouterReports
) -> None:
    # Five in a hundred: proven worse than the limit, not proven severe.
    worse = served(20_000, failed=1_000)
    await control.roll_out()
    await faultless(control, router, 10)
    second = (await control.until_percent(50)).rollout
    await router.count(second.stage_revision, A=worse, base=served(20_000))
    back = (await control.until_percent(10)).rollout
    assert (back.setbacks, back.state) == (1, "running")
    assert await control.flags() == {"base": "live", "A": "live 10 % (else shadow)", "B": "off"}
    # The stage begins anew: what was counted before it was entered again does not let it pass.
    assert (await control.seen()).next == "hold"
    await router.count(back.stage_revision, A=worse, base=served(20_000))
    aborted = await control.until_state("aborted")
    assert "setback 2 of 2" in aborted.rollout.note
    assert await control.moves() == [("start", 10), ("advance", 50), ("set_back", 10), ("abort", 0)]
    assert await control.live() == "base"


async def test_several_controls_never_do_a_thing_twice(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    async with AsyncExitStack() as others:
        for _ in range(3):
            await others.enter_async_context(control_address(database_url, rollout_interval=0.01))
        await control.roll_out("A", 10, 20, 30, 40, 50, 100)
        for percent in (10, 20, 30, 40, 50, 100):
            await faultless(control, router, percent)
        await control.until_state("completed")
    assert [percent for _, percent in await control.moves()] == [10, 20, 30, 40, 50, 100, 100]
    assert rows(database_url, "SELECT count(*) FROM flag_revision WHERE key = 'spam.A' AND revision > 1") == [(6,)]
    assert rows(database_url, "SELECT turn, setbacks FROM rollout") == [(7, 0)]


# --- who else wants the flags ---------------------------------------------------------------------------------------


async def test_while_a_rollout_goes_on_nobody_else_gets_its_flags(control: Rollouts) -> None:
    rollout = await control.roll_out(dwell_seconds=3_600.0)
    whose = f"rollout {rollout.id} of A (spam, over base; stages 10, 50, 100 %; running at 10 %; started by ada)"
    for version in ("A", "B", "base"):
        async with refused(StatusCode.FAILED_PRECONDITION, whose, "nothing changed", "rollout abort"):
            await control.promote(version)
    for version in ("A", "base"):
        async with refused(StatusCode.FAILED_PRECONDITION, whose):
            await control.set_flag(version, control_pb2.CLAIM_OFF)
    async with refused(StatusCode.FAILED_PRECONDITION, whose, "goes on already"):
        await control.roll_out("B")
    # A version that has nothing to do with it stays free.
    await control.set_flag("B", control_pb2.CLAIM_SHADOW)
    assert await control.flags() == {"base": "live", "A": "live 10 % (else shadow)", "B": "shadow"}


async def test_the_end_of_an_experiment_leaves_the_flags_of_a_rollout_alone(
    control: Rollouts, router: RouterReports
) -> None:
    await control.start("A", "B", percent=50)
    await control.roll_out()
    await control.stop()
    assert await control.flags() == {"base": "live", "A": "live 10 % (else shadow)", "B": "off"}
    assert (await control.seen()).rollout.state == "running"
    view = await control.seen()
    await router.count(view.rollout.stage_revision, A=served(ENOUGH), base=served(ENOUGH))
    # Nobody watches the divergence any more: somebody has to decide.
    view = await control.seen()
    assert (view.next, view.rollout.percent) == ("hold", 10)
    assert "has ended" in view.next_why
    # Nor does it shadow for nobody when it is taken back.
    await control.rollouts.AbortRollout(rollouts_pb2.AbortRolloutRequest(model="spam", actor="eve"))
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}


async def test_an_experiment_does_not_take_away_what_a_rollout_falls_back_to(
    control: Rollouts, router: RouterReports
) -> None:
    await control.roll_out("A", 10, 100)
    await faultless(control, router, 10)
    # At the last stage the version is the live one, and the one that it replaces could be compared with it.
    await control.until_percent(100)
    async with refused(StatusCode.FAILED_PRECONDITION, "rollout 1 of A (spam, over base", "these flags are its own"):
        await control.start("base", percent=50)
    await control.start("B", percent=50)
    assert await control.flags() == {"base": "live", "A": "live", "B": "shadow 50 %"}
    assert (await control.seen()).rollout.state == "running"


async def test_two_operators_who_start_at_once_get_one_rollout(control: Rollouts, database_url: str) -> None:
    async with rolling_out(database_url) as other:
        found = await asyncio.gather(
            control.roll_out("A"), other.roll_out("A"), control.roll_out("B"), other.roll_out("B"),
            return_exceptions=True,
        )  # fmt: skip
    errors = [each for each in found if isinstance(each, grpc.aio.AioRpcError)]
    assert len(errors) == 3
    assert {error.code() for error in errors} <= {StatusCode.FAILED_PRECONDITION, StatusCode.ABORTED}
    assert rows(database_url, "SELECT count(*) FROM rollout") == [(1,)]


async def test_a_write_past_the_api_pauses_it_and_says_who_wrote_what(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    rollout = await control.roll_out(dwell_seconds=3_600.0)
    revision = await set_flag(database_url, "spam.A", claim_definition("spam", Claim.SHADOW, 30))
    paused = await control.until_state("paused")
    assert paused.rollout.note == (
        f"spam.A says `shadow 30 %` and not `live 10 % (else shadow)`: test set it in revision {revision} (test)"
    )
    # Nothing is written over it, however bad the counts are.
    await router.count(rollout.stage_revision, A=served(60, failed=60), base=served(540))
    assert (await control.seen()).next == "wait"
    assert (await control.flags())["A"] == "shadow 30 %"
    await control.rollouts.ResumeRollout(rollouts_pb2.ResumeRolloutRequest(model="spam", actor="eve"))
    resumed = await control.seen()
    assert (resumed.rollout.state, resumed.rollout.changed_by) == ("running", "eve")
    assert resumed.rollout.stage_revision > revision
    assert (await control.flags())["A"] == "live 10 % (else shadow)"
    assert await control.moves() == [("start", 10), ("pause", 10), ("resume", 10)]


async def test_another_implementation_behind_the_name_pauses_it(control: Rollouts) -> None:
    await control.roll_out()
    await control.apply("A", address="127.0.0.1:10")
    paused = await control.until_state("paused")
    assert "A is at 127.0.0.1:10 now and was at 127.0.0.1:9" in paused.rollout.note
    async with refused(StatusCode.FAILED_PRECONDITION, "has passed no gate", "rollout abort"):
        await control.rollouts.ResumeRollout(rollouts_pb2.ResumeRolloutRequest(model="spam"))
    await control.rollouts.AbortRollout(rollouts_pb2.AbortRolloutRequest(model="spam", actor="eve"))
    assert await control.live() == "base"


async def test_what_was_decided_before_another_implementation_came_is_not_done(database_url: str) -> None:
    async with rolling_out(database_url, rollout_interval=3_600.0) as control, opened(database_url) as engine:
        await control.apply("base", "A", "B")
        await control.roll_out()
        (decided_by,) = await PostgresRollouts(engine).rollouts(running=True)
        await control.apply("A", address="127.0.0.1:10")
        widen = Decision(move=Move.ADVANCE, stage=1, why="every guardrail was kept by another implementation")
        with pytest.raises(Conflict, match=r"A of spam is at .* now and was at"):
            await rollout_moves.carry_out(PostgresControl(engine), decided_by, widen, actor="control", baseline={})
        assert await control.flags() == {"base": "live", "A": "live 10 % (else shadow)", "B": "off"}


# --- by hand --------------------------------------------------------------------------------------------------------


async def test_pause_resume_step_and_abort(control: Rollouts, router: RouterReports) -> None:
    rollout = await control.roll_out(dwell_seconds=3_600.0)
    stub, spam = control.rollouts, {"model": "spam", "actor": "eve"}
    paused = (await stub.PauseRollout(rollouts_pb2.PauseRolloutRequest(reason="lunch", **spam))).rollout
    assert (paused.state, paused.note, paused.changed_by) == ("paused", "lunch", "eve")
    async with refused(StatusCode.FAILED_PRECONDITION, "paused already by eve: lunch"):
        await stub.PauseRollout(rollouts_pb2.PauseRolloutRequest(**spam))
    async with refused(StatusCode.FAILED_PRECONDITION, "is paused by eve: lunch", "rollout resume"):
        await stub.StepRollout(rollouts_pb2.StepRolloutRequest(**spam))
    resumed = (await stub.ResumeRollout(rollouts_pb2.ResumeRolloutRequest(**spam))).rollout
    # The flags were its own all along, so the stage's time goes on.
    assert (resumed.state, resumed.stage_revision) == ("running", rollout.stage_revision)
    async with refused(StatusCode.FAILED_PRECONDITION, "is not paused"):
        await stub.ResumeRollout(rollouts_pb2.ResumeRolloutRequest(**spam))
    stepped = (await stub.StepRollout(rollouts_pb2.StepRolloutRequest(**spam))).rollout
    assert stepped.percent == 50
    await router.count(stepped.stage_revision, A=served(20_000, failed=1_000), base=served(20_000))
    async with refused(StatusCode.FAILED_PRECONDITION, "is not widened while it breaks errors"):
        await stub.StepRollout(rollouts_pb2.StepRolloutRequest(**spam))
    aborted = (await stub.AbortRollout(rollouts_pb2.AbortRolloutRequest(reason="enough", **spam))).rollout
    assert (aborted.state, aborted.note) == ("aborted", "enough")
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}
    async with refused(StatusCode.FAILED_PRECONDITION, "no rollout of spam goes on", "aborted: enough"):
        await stub.AbortRollout(rollouts_pb2.AbortRolloutRequest(**spam))
    listed = await stub.ListRollouts(rollouts_pb2.ListRolloutsRequest())
    assert [(each.id, each.state) for each in listed.rollouts] == [(rollout.id, "aborted")]


async def test_a_paused_rollout_is_still_aborted_by_a_severe_breach(control: Rollouts, router: RouterReports) -> None:
    rollout = await control.roll_out(dwell_seconds=3_600.0)
    await control.rollouts.PauseRollout(rollouts_pb2.PauseRolloutRequest(model="spam", actor="eve"))
    await router.count(rollout.stage_revision, A=served(60, failed=60), base=served(540))
    await control.until_state("aborted")
    assert await control.live() == "base"


async def test_a_rollback_ends_a_rollout_in_the_same_change(control: Rollouts, database_url: str) -> None:
    await control.roll_out(dwell_seconds=3_600.0)
    undone = await control.rollback()
    assert (undone.version, undone.rolled_back_version) == ("base", "A")
    view = await control.seen()
    assert (view.rollout.state, view.rollout.changed_by) == ("rolled_back", "ada")
    assert await control.flags() == {"base": "live", "A": "off", "B": "off"}
    # It is over: nothing brings it back.
    async with refused(StatusCode.FAILED_PRECONDITION, "no rollout of spam goes on"):
        await control.rollouts.StepRollout(rollouts_pb2.StepRolloutRequest(model="spam"))


BREAKAGES = {
    "renamed": "ALTER TABLE experiment RENAME TO experiment_lost; ALTER TABLE epoch RENAME TO epoch_lost; "
    "ALTER TABLE rollup RENAME TO rollup_lost",
    "locked": "LOCK TABLE experiment, epoch, rollup, comparison IN ACCESS EXCLUSIVE MODE",
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_rollback_needs_nothing_of_experiments(control: Rollouts, database_url: str, breakage: str) -> None:
    await control.start("A", percent=25)
    await control.roll_out(dwell_seconds=3_600.0)
    with psycopg.connect(database_url) as connection:
        connection.execute(BREAKAGES[breakage].encode())
        if breakage == "renamed":
            connection.commit()
        # Whoever waits for a lock fails after ten seconds.
        async with asyncio.timeout(8):
            assert (await control.rollback()).version == "base"
            # What a person needs to see that it worked can be read, too.
            assert await control.live() == "base"
            assert await control.flags() == {"base": "live", "A": "shadow 25 %", "B": "off"}
    assert (await control.seen()).rollout.state == "rolled_back"


async def test_live_errors_stop_a_rollout_while_experiments_cannot_be_read(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    await control.start("A", percent=25)
    rollout = await control.roll_out(dwell_seconds=3_600.0)
    with psycopg.connect(database_url) as connection:
        connection.execute(b"ALTER TABLE epoch RENAME TO epoch_lost")
        connection.commit()
        divergence = next(each for each in (await control.seen()).guardrails if each.name == "divergence")
        assert divergence.standing == "waiting"
        assert "schema" in divergence.found
        await router.count(rollout.stage_revision, A=served(60, failed=60), base=served(540))
        await control.until_state("aborted")
        assert await control.live() == "base"


async def test_a_rollout_completes_while_experiments_that_it_does_not_need_cannot_be_read(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    await control.roll_out("A", 10, 100)
    with psycopg.connect(database_url) as connection:
        connection.execute(BREAKAGES["renamed"].encode())
    for percent in (10, 100):
        await faultless(control, router, percent)
    await control.until_state("completed")
    assert await control.flags() == {"base": "live", "A": "live", "B": "off"}


# --- before it starts -----------------------------------------------------------------------------------------------


async def test_a_plan_says_how_it_would_go_and_changes_nothing(control: Rollouts, database_url: str) -> None:
    plan = await control.plan()
    assert (plan.version, plan.previous_version, plan.terms.plan) == ("A", "base", "cautious")
    assert (list(plan.terms.stages), plan.terms.dwell_seconds) == ([1, 5, 25, 50, 100], 900)
    assert list(plan.stage_seconds) == [900] * 5
    assert "gates are passed over" in plan.terms.plan_reason
    assert (list(plan.gates_holding), "has not been compared" in plan.obstacle) == (["comparison"], True)
    assert any("divergence is not watched" in warning for warning in plan.warnings)
    assert {limit.name: limit.watched for limit in plan.terms.limits} == {
        "errors": True, "latency": True, "divergence": False, "accuracy": False,
    }  # fmt: skip
    forced = await control.plan(force=True, reason=WHY, plan="bold", max_divergence=0.2)
    assert (list(forced.terms.stages), forced.obstacle) == ([5, 50, 100], "")
    assert rows(database_url, "SELECT count(*) FROM rollout") == [(0,)]
    assert rows(database_url, "SELECT max(revision) FROM flag_revision") == [(1,)]


async def test_a_plan_tells_how_long_small_stages_take_at_the_present_rate(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    await router.count(1, base=served(100))
    with psycopg.connect(database_url) as connection:
        connection.execute(b"UPDATE live_count SET first_at = seen_at - interval '10 seconds'")
    plan = await control.plan(force=True, reason=WHY)
    assert plan.requests_per_second == pytest.approx(10)
    # A tenth of a request per second at 1 %: some hundreds of them take longer than the dwell.
    assert plan.stage_seconds[0] > 1_500
    assert plan.stage_seconds[-1] == 900


async def test_a_router_whose_flags_changed_within_the_minute_is_not_counted_twice(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    await router.count(1, base=served(200))
    await router.count(2, base=served(80), A=served(20))
    with psycopg.connect(database_url) as connection:
        connection.execute(
            b"UPDATE live_count SET first_at = seen_at - interval '30 seconds' + (revision - 1) * interval '20 seconds'"
        )
    plan = await control.plan(force=True, reason=WHY)
    assert plan.requests_per_second == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"stages": [50, 10, 100]}, StatusCode.INVALID_ARGUMENT, "do not widen"),
        ({"stages": [50]}, StatusCode.INVALID_ARGUMENT, "must end with 100"),
        ({"dwell_seconds": -1.0}, StatusCode.INVALID_ARGUMENT, "dwell_seconds"),
        ({"plan": "reckless"}, StatusCode.INVALID_ARGUMENT, "there is auto, cautious, bold"),
        ({"reason": " "}, StatusCode.INVALID_ARGUMENT, "does not pass its gates"),
        ({"force": False}, StatusCode.FAILED_PRECONDITION, "was not promoted and nothing changed"),
        ({"version": "base"}, StatusCode.FAILED_PRECONDITION, "is the live version of spam already"),
        ({"version": "Z"}, StatusCode.NOT_FOUND, "has no version 'Z'"),
        ({"max_divergence": 2.0}, StatusCode.INVALID_ARGUMENT, "max_divergence"),
    ],
)
async def test_a_rollout_that_makes_no_sense_is_refused_and_nothing_changes(
    control: Rollouts, database_url: str, fields: dict[str, object], code: StatusCode, said: str
) -> None:
    wish = rollouts_pb2.RolloutWish(**{"model": "spam", "version": "A", "force": True, "reason": WHY} | fields)  # type: ignore[arg-type]
    async with refused(code, said):
        await control.rollouts.StartRollout(rollouts_pb2.StartRolloutRequest(wish=wish))
    assert rows(database_url, "SELECT count(*) FROM rollout") == [(0,)]


async def test_an_older_version_and_one_that_serves_already_have_no_stages(control: Rollouts) -> None:
    await control.promote("B")
    async with refused(StatusCode.FAILED_PRECONDITION, "the newer B of spam claims `live`"):
        await control.roll_out("A")
    await control.rollback()
    await control.promote("A", percent=5)
    async with refused(StatusCode.FAILED_PRECONDITION, "answers a share of the requests", "shadowctl rollback"):
        await control.roll_out("A")


# --- whether a promotion has arrived --------------------------------------------------------------------------------


async def test_who_follows_a_revision_and_who_served_since(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    promoted = await control.promote("A")
    other = RouterReports(database_url=database_url, instance="router-2")
    await router.acknowledge(promoted.revision)
    await other.acknowledge(promoted.revision - 1)
    ask = rollouts_pb2.GetAcknowledgementRequest(model="spam", revision=promoted.revision)
    found = await control.rollouts.GetAcknowledgement(ask)
    assert [each.instance for each in found.acknowledged] == ["router-1"]
    (straggler,) = found.stragglers
    assert (straggler.instance, straggler.host, straggler.revision, straggler.silent) == (
        "router-2", "host-a", promoted.revision - 1, False,
    )  # fmt: skip
    assert 0 <= straggler.age_seconds < PATIENCE
    assert list(found.served) == []
    await router.count(promoted.revision, A=served(40, failed=3))
    (by_a,) = (await control.rollouts.GetAcknowledgement(ask)).served
    assert (by_a.version, by_a.requests, by_a.failed) == ("A", 40, 3)


async def test_a_router_that_fell_silent_may_still_answer_and_is_named_for_a_minute(
    control: Rollouts, router: RouterReports, database_url: str
) -> None:
    promoted = await control.promote("A")
    await router.acknowledge(promoted.revision)
    ask = rollouts_pb2.GetAcknowledgementRequest(model="spam", revision=promoted.revision)
    for age, silent, gone in ((30, True, False), (70, False, True)):
        with psycopg.connect(database_url) as connection:
            query = "UPDATE process SET seen_at = clock_timestamp() - make_interval(secs => %s) WHERE role = 'router'"
            connection.execute(query.encode(), (age,))
        found = await control.rollouts.GetAcknowledgement(ask)
        assert [each.silent for each in found.stragglers] == ([True] if silent else [])
        assert (not found.stragglers and not found.acknowledged) == gone


async def test_counts_that_are_saved_again_count_once(control: Rollouts, router: RouterReports) -> None:
    promoted = await control.promote("A")
    for n in (10, 25, 25):
        await router.count(promoted.revision, A=served(n))
    ask = rollouts_pb2.GetAcknowledgementRequest(model="spam", revision=promoted.revision)
    (by_a,) = (await control.rollouts.GetAcknowledgement(ask)).served
    assert by_a.requests == 25
    async with refused(StatusCode.INVALID_ARGUMENT, "revision: 0 is none"):
        await control.rollouts.GetAcknowledgement(rollouts_pb2.GetAcknowledgementRequest(model="spam"))


async def test_rollouts_go_on_when_control_starts_again(database_url: str, router: RouterReports) -> None:
    async with rolling_out(database_url) as first:
        await first.apply("base", "A")
        rollout = await first.roll_out()
    await router.count(rollout.stage_revision, A=served(ENOUGH), base=served(ENOUGH))
    async with rolling_out(database_url) as second:
        await second.until_percent(50)
        await until(lambda: rows(database_url, "SELECT count(*) FROM rollout_event") == [(2,)])
