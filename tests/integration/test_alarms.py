"""Shadows that fall silent, comparators that fail, answers that change: seen by a real control, told by `shadowctl`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_shadowctl import Result, environment, run

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.probes import MOST_CHANGES, PostgresProbes
from multishadow_server.core.alarms import AlarmKey, AlarmKind, Finding, Turn
from multishadow_server.core.probe_state import ProbeChange, ProbeOutcome, ProbeState
from multishadow_server.core.watch_readings import Reading
from multishadow_server.service.ports import Past, ProbeKey, Span
from multishadow_server.settings import Settings
from running_control import control_address
from shadowed_traffic import Stage, append, staged, working
from store_fixtures import opened, rows
from version_servers import Behaviour, Context, answering, failing, serving
from waiting import until

# Alarms within a second, so that nobody waits.
QUICK: dict[str, Any] = {
    "watch_interval": 0.05,
    "alarm_silent_after": 0.4,
    "alarm_window": 1.0,
    "alarm_clear_after": 0.3,
    # A machine that is busy for a while is no process that is missing.
    "report_interval": 3.0,
}


async def shadowctl(*arguments: str) -> Result:
    return await asyncio.to_thread(run, arguments)


def texting() -> Behaviour:
    """A version that was wired to the wrong kind of answer."""

    async def predict(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        return prediction_pb2.PredictResponse(text="yes")

    return predict


@asynccontextmanager
async def controlled(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    async with control_address(database_url, **QUICK) as address:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        yield address


async def kinds() -> dict[str, str]:
    """What `shadowctl alarms` lists: details by `kind subject`."""
    listed = await shadowctl("alarms", "list", "-o", "json")
    return {f"{each['kind']} {each['subject']}": each["detail"] for each in listed.document["alarms"]}


def keeps_coming(stage: Stage) -> Callable[[], Awaitable[None]]:
    """Twenty-five requests more, whenever it is called."""
    rounds = itertools.count()

    async def send() -> None:
        await append(stage.log, stage.captures(25, prefix=f"round-{next(rounds)}"))

    return send


async def test_a_silent_shadow_and_a_miswired_one_are_named_acknowledged_and_over_when_they_are_mended(
    database_url: str, nats_url: str, log_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        database_url=database_url,
        nats_url=nats_url,
        log_name=log_name,
        log_partitions=4,
        worker_linger=0.05,
        report_interval=0.2,
    )
    async with (
        staged(settings, {"A": answering(), "B": texting()}) as stage,
        working(settings),
        controlled(database_url, monkeypatch),
    ):
        send = keeps_coming(stage)

        async def raised(*names: str) -> bool:
            await send()
            return await has(kinds, *names)

        async def over(*names: str) -> bool:
            await send()
            return await lacks(kinds, *names)

        await until(lambda: raised("comparator_failing B"))
        assert "shadow_silent A" not in await kinds()
        stage.servers["A"].behaviour = failing()
        await until(lambda: raised("comparator_failing B", "shadow_silent A"))

        told = await kinds()
        assert "type_mismatch" in told["comparator_failing B"]
        assert f"A at {stage.servers['A'].address} answered none of" in told["shadow_silent A"]
        assert "INTERNAL" in told["shadow_silent A"]
        assert (await shadowctl("alarms")).code == 1
        for command in (("status",), ("compare",)):
            assert "alarms: comparator_failing B, shadow_silent A (shadowctl alarms)" in (await shadowctl(*command)).out

        assert (await shadowctl("alarms", "ack", "99", "--note", "?")).code == 1
        acknowledged = await shadowctl("alarms", "ack", "--note", "on it")
        assert acknowledged.code == 0, acknowledged.err
        known = await shadowctl("alarms")
        assert (known.code, known.out.count("acknowledged by ann")) == (0, 2)
        assert [
            (actor, detail["kind"], detail["note"])
            for actor, detail in rows(
                database_url, "SELECT actor, detail FROM audit_log WHERE action = 'acknowledge_alarm' ORDER BY id"
            )
        ] == [("ann", "comparator_failing", "on it"), ("ann", "shadow_silent", "on it")]

        stage.servers["A"].behaviour = stage.servers["B"].behaviour = answering()
        await until(lambda: over("comparator_failing B", "shadow_silent A"))
        history = (await shadowctl("alarms", "history", "-o", "json")).document["alarms"]
        ended = {f"{each['kind']} {each['subject']}" for each in history if each["cleared_at"] is not None}
        assert {"comparator_failing B", "shadow_silent A"} <= ended


PROBED = """
model: spam
probes:
  - name: known
    request: {{text: hello}}
    expect: {{classification: "yes"}}
    every: 1s
  - {{name: same, request: {{json: {{amount: 1e-3}}}}, expect: stable, every: 1s}}
versions:
  - {{name: base, address: "{base}"}}
  - {{name: A, address: "{a}"}}
"""


async def test_probes_are_asked_once_in_a_period_and_an_answer_that_changed_behind_its_address_is_an_alarm(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "spam.yaml"
    async with (
        serving(answering()) as base,
        serving(answering()) as a,
        control_address(database_url, **QUICK),
        controlled(database_url, monkeypatch),
    ):
        file.write_text(PROBED.format(base=base.address, a=a.address))
        applied = await shadowctl("apply", "-f", str(file))
        assert applied.code == 0, applied.err
        assert (await shadowctl("apply", "-f", str(file), "-o", "json")).document["changes"] == []
        assert (await shadowctl("start", "A")).code == 0
        # Twice, so that there are two askings to be apart.
        await until(lambda: len(a.metadata) >= 4)
        assert (await shadowctl("probes")).code == 0

        a.behaviour = answering("no")
        await until(
            lambda: has(kinds, "answer_changed A/known", "answer_changed A/same", "known_answer_wrong A/known"),
        )
        told = await kinds()
        assert "the evidence of epoch 1 of experiment 1 mixes two implementations" in told["answer_changed A/same"]
        probes = await shadowctl("probes", "-o", "json")
        assert probes.code == 1
        by_name = {(each["version"], each["probe"]): each for each in probes.document["standings"]}
        assert by_name["A", "known"]["outcome"] == "wrong"
        assert by_name["A", "same"]["answer"] == {"classification": {"label": "no"}}
        assert by_name["base", "known"]["outcome"] == "ok"
        assert "probes: 3 ok, 1 wrong" in (await shadowctl("status")).out
        assert "other answer" in (await shadowctl("probes", "--history", "--version", "A")).out

        assert (await shadowctl("stop")).code == 0
        assert (await shadowctl("start", "A")).code == 0
        await until(lambda: lacks(kinds, "answer_changed A/known", "answer_changed A/same"))
        assert "known_answer_wrong A/known" in await kinds()
        # So that they stay over when this experiment ends, too.
        settled = "SELECT count(*) FROM probe_state WHERE settled_at = (state->>'changed_at')::float"
        await until(lambda: rows(database_url, settled) == [(2,)])
    claims = [str(each["x-multishadow-request-id"]) for each in a.metadata if "known" in str(each)]
    moments = [int(each.rpartition("-")[2]) for each in claims]
    assert all(later - earlier >= 999 for earlier, later in itertools.pairwise(moments)), moments
    assert all(each["x-multishadow-probe"] == each["x-shadow-deployment"] == "true" for each in a.metadata)
    assert rows(database_url, "SELECT count(*) FROM rollup") == [(0,)], "probes count in no experiment"


async def has(told: Callable[[], Awaitable[dict[str, str]]], *names: str) -> bool:
    return set(names) <= (await told()).keys()


async def lacks(told: Callable[[], Awaitable[dict[str, str]]], *names: str) -> bool:
    return not set(names) & (await told()).keys()


async def test_of_many_that_want_to_ask_in_a_period_one_may(database_url: str) -> None:
    key = ProbeKey("spam", "A", "hello")
    async with opened(database_url) as engine, opened(database_url) as another:
        stores = [PostgresProbes(engine), PostgresProbes(another)] * 4
        first = await asyncio.gather(*(store.claim(key, every=3_600) for store in stores))
        assert sum(claim is not None for claim in first) == 1
        again = await asyncio.gather(*(store.claim(key, every=0) for store in stores))
        assert sum(claim is not None for claim in again) == len(stores), "each period has its own"


async def test_an_answer_that_comes_after_the_next_asking_is_not_kept_and_the_history_is_bounded(
    database_url: str,
) -> None:
    key = ProbeKey("spam", "A", "hello")
    state = ProbeState(
        model="spam",
        version="A",
        probe="hello",
        fingerprint="f",
        address="10.0.0.7:9000",
        outcome=ProbeOutcome.OK,
        asked_at=1.0,
        since=1.0,
        detail="a NUL \x00 of a version",
        answer=b"\x00answer",
    )
    async with opened(database_url) as engine:
        store = PostgresProbes(engine)
        late, present = await store.claim(key, every=0), await store.claim(key, every=0)
        assert late is not None
        assert present is not None
        await store.record(late, state, ())
        assert await store.states() == []
        changes = [ProbeChange(at=float(n), before="ok", after=f"failing {n}", detail="") for n in range(60)]
        await store.record(present, state, changes)
        (kept,) = await store.states("spam", answers=True)
        (small,) = await store.states()
        assert small.answer == b"", "answers may be large, and are read where asked for"
        assert (kept.answer, kept.detail) == (b"\x00answer", "a NUL \ufffd of a version")
        history = await store.changes("spam", most=500)
        assert len(history) == MOST_CHANGES
        assert history[0][1].after == "failing 59"


async def test_two_controls_raise_an_alarm_once_and_who_comes_second_steps_back(database_url: str) -> None:
    key = AlarmKey(AlarmKind.LAG, "", "worker-1")
    span = Span(recent=1, window=1, apart=0.5)
    inside = asyncio.Event()

    async with opened(database_url) as engine:
        store = PostgresAlarms(engine)
        reading = Reading(at=1_795_435_200.0)

        def decide(past: Past) -> Turn:
            inside.set()
            return Turn() if past.standing else Turn(raised=(Finding(key=key, detail="behind"),))

        turns = await asyncio.gather(*(store.turn(reading, span, decide) for _ in range(4)))
        assert inside.is_set()
        assert sum(len(turn.raised) for turn in turns if turn is not None) == 1
        (alarm,) = await store.alarms("spam")
        assert (alarm.key, alarm.detail, alarm.acknowledged) == (key, "behind", False)
