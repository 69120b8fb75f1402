"""Sessions through two routers, while a worker is killed: every turn in order, every session counted once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
from test_worker_killed import Workers, workers

from multishadow.v1 import prediction_pb2, sessions_pb2, sessions_pb2_grpc
from multishadow_server.adapters.jetstream_log import JetStreamLog
from multishadow_server.adapters.postgres import PostgresControl, open_engine
from multishadow_server.core import flags
from multishadow_server.core.capture import CaptureBatch
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.settings import Settings
from routers import Caller, a_request, router
from running_control import asked, control_address
from shadowed_traffic import Counts, connected
from version_servers import Behaviour, Context, answering, labelled, serving
from waiting import until

MODEL = "spam"
# The test says when time has passed, so that a busy machine ends no session early.
TERMS = SessionTerms(idle=3600.0, turn="chat.turn", wait=1.0)
SESSIONS = [f"chat-{number}" for number in range(8)]
TURNS = 6
# A diverges in two sessions, from the third turn on, and not on the last.
DIVERGENT, FIRST_BAD = {"chat-2", "chat-5"}, 3


class Listener:
    """A shadow that notes what it hears when, and holds its answers while its gate is closed."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.answered: dict[str, set[int]] = defaultdict(set)
        self.under_way: Counter[str] = Counter()
        self.calls = 0
        self.wrong: list[str] = []

    def behaviour(self) -> Behaviour:
        async def predict(request: prediction_pb2.PredictRequest, _: Context) -> prediction_pb2.PredictResponse:
            session, number = request.session_id, int(request.request_id.rpartition("/")[2])
            self.calls += 1
            if number > 1 and number - 1 not in self.answered[session]:
                self.wrong.append(f"{session} heard turn {number} before it had answered turn {number - 1}")
            if self.under_way[session]:
                self.wrong.append(f"{session} heard turn {number} while another one was under way")
            self.under_way[session] += 1
            try:
                await self.gate.wait()
            finally:
                self.under_way[session] -= 1
            self.answered[session].add(number)
            return labelled("no" if session in DIVERGENT and FIRST_BAD <= number < TURNS else "yes")

        return predict


async def test_sessions_through_two_routers_are_heard_in_order_and_counted_once_though_a_worker_is_killed(
    database_url: str, nats_url: str, log_name: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, log_name=log_name, log_partitions=2)
    listener = Listener()
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(serving(answering()))
        shadow = await stack.enter_async_context(serving(listener.behaviour()))
        epoch = await _begin(database_url, live.address, shadow.address)
        # One flushes at once, the other when its turn's successor may be in the log already.
        own = [{"instance": f"flushing-{each}", "flush_interval": each, "log_partitions": 2} for each in (0.01, 0.3)]
        routers = [await stack.enter_async_context(router(database_url, nats_url, log_name, **more)) for more in own]
        counts = Counts(database_url, epoch)
        stack.push_async_callback(counts.aclose)
        with workers(settings, tmp_path, count=1) as running:
            await _talk_and_kill(routers, listener, running)
            await counts.reach(len(SESSIONS) * TURNS)
            await _an_hour_later(settings)
            await until(lambda: _ended(counts))
        assert not listener.wrong
        await _check_counts(counts, listener)
        await _check_shown(stack, database_url)


async def _talk_and_kill(routers: list[Caller], listener: Listener, running: Workers) -> None:
    """Callers who wait for each answer; in the midst of it, the worker dies with calls under way."""
    halfway = asyncio.Event()

    async def talk(session: str, place: int) -> None:
        for number in range(1, TURNS + 1):
            if number == TURNS // 2 + 1:
                await halfway.wait()
            body = a_request(
                MODEL, session_id=session, request_id=f"{session}/{number}", attributes={"chat": {"turn": number}}
            )
            await routers[(number + place) % 2].predict(body)

    talks = [asyncio.create_task(talk(session, place)) for place, session in enumerate(SESSIONS)]
    await until(lambda: sum(map(len, listener.answered.values())) >= len(SESSIONS))
    listener.gate.clear()
    halfway.set()
    await asyncio.gather(*talks)
    await until(listener.under_way.total)
    await asyncio.to_thread(running.kill, 0)
    await until(lambda: not listener.under_way.total())
    listener.gate.set()


async def _begin(database_url: str, live: str, shadow: str) -> Epoch:
    addresses = {"base": live, "A": shadow}
    model = Model(
        name=MODEL,
        sessions=TERMS,
        versions=tuple(
            Version(model=MODEL, name=name, address=address, timeout=60.0) for name, address in addresses.items()
        ),
    )
    engine = open_engine(database_url)
    try:
        async with PostgresControl(engine).change("test") as change:
            await change.put_model(model)
            await change.put_versions(model)
            for version, claim in zip(model.versions, (Claim.LIVE, Claim.SHADOW), strict=True):
                await change.put_flag(version.flag_key, flags.claim_definition(MODEL, claim), reason="test")
            experiment = await change.start_experiment(
                model=MODEL, candidates=["A"], percent=100, bucket_seconds=3600, duration=86_400
            )
            return await change.open_epoch(
                experiment, live="base", candidates=["A"], comparator=Comparator(), reason="started"
            )
    finally:
        await engine.dispose()


async def _an_hour_later(settings: Settings) -> None:
    async with connected(str(settings.nats_url)) as client:
        log, now = JetStreamLog(client, settings), time.time() + 4_000
        await log.open()
        for partition in range(log.partitions):
            batch = CaptureBatch(router="test", captures=(), ticked_at=now)
            await log.append(partition, batch, message_id=f"tick-{partition}")


async def _ended(counts: Counts) -> bool:
    return (await counts.family("session"))["", "ended"] >= len(SESSIONS)


async def _check_counts(counts: Counts, listener: Listener) -> None:
    whole, bad = len(SESSIONS), len(DIVERGENT)
    assert await counts.family("session") == Counter(
        {("", "ended"): whole, ("", "turns"): whole * TURNS, ("A", "o"): whole - bad, ("A", "b"): bad}
    )
    assert await counts.family("session_cut") == Counter()
    assert await counts.family("first_divergence") == Counter({("A", str(FIRST_BAD)): bad})
    assert await counts.outcomes() == Counter(
        {("A", "ok"): whole * TURNS - bad * (TURNS - FIRST_BAD), ("A", "diverged"): bad * (TURNS - FIRST_BAD)}
    )
    assert listener.calls > whole * TURNS, "the kill hit no call under way"


async def _check_shown(stack: AsyncExitStack, database_url: str) -> None:
    address = await stack.enter_async_context(control_address(database_url))
    control = await stack.enter_async_context(asked(address))
    report = await control.compare(model=MODEL)
    (candidate,) = report.candidates
    assert report.unit == "session"
    assert candidate.divergence.estimate == len(DIVERGENT) / len(SESSIONS)
    assert candidate.n == len(SESSIONS) * TURNS, "answers are counted by request"
    assert [(each.turn, each.bad) for each in report.sessions.candidates[0].by_turn] == [
        (number, len(DIVERGENT) if FIRST_BAD <= number < TURNS else 0) for number in range(1, TURNS + 1)
    ]
    by_request = await control.compare(model=MODEL, unit="request")
    assert by_request.unit == "request"
    assert by_request.candidates[0].divergence.estimate == len(DIVERGENT) * 3 / (len(SESSIONS) * TURNS)
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    stub = sessions_pb2_grpc.SessionServiceStub(channel)
    listed = await stub.ListSessions(sessions_pb2.ListSessionsRequest())
    assert {each.session_id for each in listed.sessions} == DIVERGENT
    assert {each.first_bad["A"] for each in listed.sessions} == {FIRST_BAD}
    shown = await stub.GetSession(sessions_pb2.GetSessionRequest(session_id="chat-2"))
    numbers = [turn.turn for turn in shown.turns]
    assert shown.numbered
    assert numbers == sorted(numbers)
    assert numbers[-(TURNS - FIRST_BAD + 1) :] == list(range(FIRST_BAD, TURNS + 1)), "also the one after the last bad"
