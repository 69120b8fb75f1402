"""Dead letters over the real log, store, worker, versions and `shadowctl`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from test_shadowctl import Result, environment, run

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.postgres import PostgresControl, PostgresRetention
from multishadow_server.adapters.postgres.dead_letters import PostgresDeadLetters
from multishadow_server.core.dead_letter_policy import DeadLetterPolicy
from multishadow_server.core.dead_letters import LetterState
from multishadow_server.service.ports import Attempt, LetterFilter
from multishadow_server.settings import Settings
from running_control import control_address
from shadowed_traffic import MODEL, Stage, append, staged, working
from store_fixtures import opened, rows
from version_servers import Behaviour, Context, answering, labelled
from waiting import until

POLICY = DeadLetterPolicy(retries=100, first_backoff=0.2, longest_backoff=0.2)
BY_STATE = "SELECT state, count(*) FROM dead_letter GROUP BY state"


@pytest.fixture
def settings(database_url: str, nats_url: str, log_name: str) -> Settings:
    return Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=2,
        worker_linger=0.05,
        report_interval=0.05,
        dead_letter_interval=0.05,
    )


def away_until(back: asyncio.Event) -> Behaviour:
    """UNAVAILABLE until it is back."""

    async def predict(_request: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        if not back.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        return labelled("yes")

    return predict


@asynccontextmanager
async def keeping(stage: Stage, policy: DeadLetterPolicy) -> AsyncIterator[PostgresDeadLetters]:
    """Give the stage's model a policy."""
    async with opened(str(stage.settings.database_url)) as engine:
        async with PostgresControl(engine).change("test") as change:
            await change.put_model(replace(change.configuration.models[MODEL], dead_letters=policy))
        yield PostgresDeadLetters(engine)


def states(settings: Settings) -> Counter[str]:
    return Counter(dict(rows(str(settings.database_url), BY_STATE)))


async def test_calls_that_failed_are_answered_later_hold_up_nobody_and_count_as_they_failed(settings: Settings) -> None:
    back = asyncio.Event()
    async with staged(settings, {"A": away_until(back), "B": answering()}) as stage, keeping(stage, POLICY) as letters:
        async with working(settings):
            await append(stage.log, stage.captures(10))
            await stage.counts.reach(20)
            # Every capture is committed and acknowledged while A is away.
            await until(stage.drained)
            expected = Counter({("A", "error"): 10, ("B", "ok"): 10})
            assert await stage.counts.outcomes() == expected
            back.set()
            await until(lambda: states(settings) == Counter(answered=10))
        assert await stage.counts.outcomes() == expected
        assert set(stage.servers["B"].calls.values()) == {1}
        listed = await letters.listed(LetterFilter(), before=0, most=100)
        assert {(each.outcome, each.similarity, each.version) for each in listed} == {("ok", 1.0, "A")}
        assert {each.request_id for each in listed} == {f"r-{number}" for number in range(10)}
        assert all(each.attempts > 1 for each in listed)


async def test_a_letter_is_parked_after_its_last_attempt_and_workers_share_the_work(settings: Settings) -> None:
    few = replace(POLICY, retries=2)
    async with staged(settings, {"A": away_until(asyncio.Event())}) as stage, keeping(stage, few):
        async with working(settings), working(settings, instance="worker-2"):
            await append(stage.log, stage.captures(8))
            await until(lambda: states(settings) == Counter(parked=8))
        assert set(stage.servers["A"].calls.values()) == {3}, "each letter was tried by one worker at a time"
        assert await stage.counts.outcomes() == Counter({("A", "error"): 8})


async def test_letters_beyond_the_models_limit_are_given_up_and_counted(settings: Settings) -> None:
    few = replace(POLICY, first_backoff=60, longest_backoff=60, most=3)
    one = settings.model_copy(update={"log_partitions": 1})
    async with staged(one, {"A": away_until(asyncio.Event())}) as stage, keeping(stage, few), working(one):
        await append(stage.log, stage.captures(10))
        await stage.counts.reach(10)
        assert states(settings) == Counter(waiting=3)
        await until(lambda: stage.counter("dead_letters.no_room", equals=7))
        assert await stage.counts.outcomes() == Counter({("A", "error"): 10})


async def test_a_message_that_nobody_can_read_is_kept_for_people(settings: Settings) -> None:
    async with staged(settings, {"A": answering()}) as stage, working(settings):
        await stage.client.jetstream().publish(f"{settings.log_name}.1", b"\xff\xff no capture")
        await until(lambda: states(settings) == Counter(parked=1))
        async with opened(str(settings.database_url)) as engine:
            letters = PostgresDeadLetters(engine)
            (line,) = await letters.listed(LetterFilter(), before=0, most=10)
            found = await letters.letter(line.id)
            assert found is not None
            assert (found.capture, found.raw, line.outcome) == (None, b"\xff\xff no capture", "unreadable")
            assert await letters.retry(LetterFilter(), retry="x", actor="ada") == (0, 1)


async def test_people_list_show_retry_and_purge_them(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    back = asyncio.Event()
    once = replace(POLICY, retries=1)
    async with (
        staged(settings, {"A": away_until(back)}) as stage,
        keeping(stage, once),
        working(settings),
        control_address(str(settings.database_url)) as address,
    ):
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        await append(stage.log, stage.captures(4))
        await until(lambda: states(settings) == Counter(parked=4))
        first = (await shadowctl("list", "--most", "3", "-o", "json")).document
        second = (await shadowctl("list", "--before", str(first["next_before_id"]), "-o", "json")).document
        ids = [letter["id"] for page in (first, second) for letter in page["dead_letters"]]
        assert (len(ids), ids, second["next_before_id"]) == (4, sorted(ids, reverse=True), 0)
        assert (await shadowctl("list", "--state", "lost")).code == 2

        shown = await shadowctl("show", str(ids[0]))
        assert "restarting" in shown.out
        assert "hello" in shown.out, "the request's bytes"
        assert (await shadowctl("show", "999999")).code == 1

        assert (await shadowctl("retry", str(ids[0]))).code == 1, "A is away still"
        back.set()
        retried = await shadowctl("retry", "--all", "--state", "parked", "-o", "json")
        assert (retried.code, retried.document["answered"]) == (0, 4)
        assert (await shadowctl("retry", "999999")).code == 1
        assert (await shadowctl("purge", "--all", "--state", "answered", "--yes")).out == "4 dead letters deleted\n"
        unknown = await shadowctl("purge", "999999", "--yes")
        assert (unknown.code, unknown.out) == (
            1,
            "0 dead letters deleted; 1 of those that you named are not there\n",
        )
        assert states(settings) == Counter()
    audited = rows(str(settings.database_url), "SELECT action, actor FROM audit_log WHERE action LIKE '%dead_letters'")
    assert Counter(audited) == Counter({("retry_dead_letters", "ann"): 2, ("purge_dead_letters", "ann"): 1})


async def shadowctl(*arguments: str) -> Result:
    return await asyncio.to_thread(run, ("deadletter", *arguments))


async def test_a_claim_that_was_lost_writes_nothing_and_one_that_was_not_brought_back_is_due_again(
    settings: Settings,
) -> None:
    slow = replace(POLICY, retries=3)
    async with staged(settings, {"A": away_until(asyncio.Event())}) as stage, keeping(stage, slow) as letters:
        calm = settings.model_copy(update={"dead_letter_interval": 3600.0})
        async with working(calm):
            await append(stage.log, stage.captures(2))
            await until(lambda: states(settings) == Counter(waiting=2))
        rows(str(settings.database_url), "UPDATE dead_letter SET next_attempt_at = now() RETURNING 1")
        first, second = await letters.claim(busy=(), of_each=4)
        assert await letters.claim(busy=(), of_each=4) == [], "nobody gets another's"
        assert await letters.retry(LetterFilter(ids=(first.id,)), retry="again", actor="ada") == (1, 0)
        answered = Attempt(state=LetterState.ANSWERED, attempts=2, outcome="ok")
        assert not await letters.settle(first, answered), "somebody asked for it meanwhile"
        await letters.give_back([second])
        assert [(each.id, each.asked) for each in await letters.claim(busy=(), of_each=4)] == [
            (first.id, True),
            (second.id, False),
        ]
        assert await letters.claim(busy=("spam.A",), of_each=4) == []


async def test_letters_go_when_their_time_is_over(settings: Settings) -> None:
    async with staged(settings, {"A": away_until(asyncio.Event())}) as stage, keeping(stage, POLICY), working(settings):
        await append(stage.log, stage.captures(2))
        await until(lambda: states(settings).total() == 2)
        past = "UPDATE dead_letter SET expires_at = now() - interval '1s' WHERE request_id = 'r-0' RETURNING 1"
        rows(str(settings.database_url), past)
        async with opened(str(settings.database_url)) as engine:
            await PostgresRetention(engine, keep_days=30).enforce()
        assert rows(str(settings.database_url), "SELECT request_id FROM dead_letter") == [("r-1",)]
