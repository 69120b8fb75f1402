"""Sessions in a partition's work: turns one at a time and in order, counts that survive whatever strikes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_partition_work import Scene
from test_shadowing import AGREES, CAPTURE, a_configuration, an_epoch

from fakes import Fault
from multishadow_server.core.capture import Capture, CaptureBatch, Metadata
from multishadow_server.core.rollup import Cell, Rollup
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.sessions import OpenSessions, SessionKey, Turn
from multishadow_server.errors import LogFull
from multishadow_server.service.ports import Answer, AnswerStream, LoggedBatch
from multishadow_server.service.session_order import SessionOrder
from multishadow_server.service.session_work import SessionWork
from waiting import until

NUMBERED = SessionTerms(idle=60.0, turn="turn", wait=5.0)
PATIENT = SessionTerms(idle=60.0, wait=5.0)
HASTY = SessionTerms(idle=60.0, wait=0.0)
LONG_AGO = 1_000_000.0


def a_turn(session: str, number: int, *, numbered: bool = True, at: float | None = None, **more: object) -> Capture:
    capture = replace(
        CAPTURE,
        request_id=f"{session}-{number}",
        session_id=session,
        shadows=("A",),
        received_at=LONG_AGO + number if at is None else at,
        in_session=True,
        turn=number if numbered else None,
        fingerprint=f"{session}-{number}".encode(),
    )
    return replace(capture, **more)  # type: ignore[arg-type]  # fields by name


def logged(sequence: int, *captures: Capture, ticked_at: float = 0.0) -> LoggedBatch:
    return LoggedBatch(sequence=sequence, batch=CaptureBatch(router="r", captures=captures, ticked_at=ticked_at))


class Conversation:
    """A gateway whose one version answers a call when a test lets it; `began` and `ended` are request ids in order."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.at_once = True
        self.under_way: dict[str, asyncio.Event] = {}
        self.answers: dict[str, bytes] = {}

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        del address, method, request, deadline
        (request_id,) = (str(value) for name, value in metadata if name == "x-multishadow-request-id")
        self.began.append(request_id)
        if not self.at_once:
            self.under_way[request_id] = asyncio.Event()
            await self.under_way[request_id].wait()
        self.ended.append(request_id)
        return replace(AGREES, response=self.answers.get(request_id, AGREES.response))

    def stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> AnswerStream:
        raise AssertionError("nothing here is streamed")

    async def call_stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        raise AssertionError("nothing here is streamed")

    async def aclose(self) -> None:
        """Nothing is open."""


class Sessions(Scene):
    """A partition with sessions."""

    def __init__(self, *messages: LoggedBatch, terms: SessionTerms = NUMBERED, linger: float = 0.0) -> None:
        super().__init__(*messages, linger=linger)
        self.talk = Conversation()
        self.workshop.shadowing._gateway = self.talk
        known = a_configuration(replace(an_epoch("A"), opened_at=0.0))
        models = {name: replace(model, sessions=terms) for name, model in known.models.items()}
        self.source.configuration = replace(known, models=models)

    async def reached(self, calls: int, work: asyncio.Task[None]) -> None:
        await until(lambda: len(self.talk.began) >= calls or self.done() or work.done())

    def count(self, family: str, subject: str, level: str) -> int:
        total = sum(self.store.rollup.values(), Rollup())
        return total.cells.get(Cell(family, subject, level), 0)


@asynccontextmanager
async def order(terms: SessionTerms = NUMBERED, **gone: int) -> AsyncIterator[Line]:
    line = Line(SessionOrder({SessionKey("spam", name): number for name, number in gone.items()}), terms)
    try:
        yield line
    finally:
        for task in line.tasks:
            task.cancel()
        await asyncio.gather(*line.tasks, return_exceptions=True)


class Line:
    """Turns that wait for each other; `had` are those that have had theirs, in order."""

    def __init__(self, order: SessionOrder, terms: SessionTerms) -> None:
        self._order = order
        self._terms = terms
        self.tasks: list[asyncio.Task[None]] = []
        self.had: list[str] = []
        self.doors: dict[str, asyncio.Event] = {}

    def enter(self, capture: Capture) -> asyncio.Task[None]:
        ticket = self._order.enter(capture, self._terms)
        door = self.doors[capture.request_id] = asyncio.Event()

        async def turn() -> None:
            async with self._order.turn(ticket):
                self.had.append(capture.request_id)
                await door.wait()

        self.tasks.append(asyncio.create_task(turn()))
        return self.tasks[-1]

    async def reached(self, request_id: str) -> None:
        await until(lambda: self.had[-1:] == [request_id])


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# --- in order -----------------------------------------------------------------------------------------------------


async def test_a_turn_waits_until_the_one_before_it_has_ended_and_no_other_session_does() -> None:
    async with order() as line:
        for capture in (a_turn("s", 1), a_turn("s", 2), a_turn("t", 1)):
            line.enter(capture)
        await settled()
        assert line.had == ["s-1", "t-1"]
        line.doors["s-1"].set()
        await until(lambda: line.had == ["s-1", "t-1", "s-2"])


async def test_turns_that_come_out_of_order_are_put_in_order() -> None:
    now = time.time()
    async with order() as line:
        for number in (3, 2):
            line.enter(a_turn("s", number, at=now))
        await settled()
        assert not line.had, "turn 1 may be on its way"
        line.enter(a_turn("s", 1, at=now))
        for number in (1, 2, 3):
            await line.reached(f"s-{number}")
            line.doors[f"s-{number}"].set()


async def test_a_turn_that_follows_what_was_committed_before_waits_for_nothing() -> None:
    async with order(s=4) as line:
        line.enter(a_turn("s", 5, at=time.time()))
        await settled()
        assert line.had == ["s-5"]


async def test_a_missing_turn_is_waited_for_as_long_as_the_terms_say_and_no_longer() -> None:
    async with order(replace(NUMBERED, wait=0.05)) as line:
        line.enter(a_turn("s", 2, at=time.time()))
        await settled()
        assert not line.had
        await until(lambda: line.had == ["s-2"])


async def test_of_a_backlog_nothing_is_waited_for() -> None:
    async with order(PATIENT) as line:
        line.enter(a_turn("s", 2, numbered=False))
        await settled()
        assert line.had == ["s-2"]


async def test_turns_without_numbers_go_by_when_they_were_received() -> None:
    now = time.time()
    async with order(replace(PATIENT, wait=0.05)) as line:
        for number, ago in ((2, 0.1), (1, 0.2), (3, 0.0)):
            line.enter(a_turn("s", number, numbered=False, at=now - ago, live_latency=ago))
        await settled()
        assert not line.had
        for number in (1, 2, 3):
            await line.reached(f"s-{number}")
            line.doors[f"s-{number}"].set()


async def test_a_clock_that_is_behind_the_routers_makes_no_turn_wait_longer_than_the_terms_say() -> None:
    async with order(replace(PATIENT, wait=0.05)) as line:
        line.enter(a_turn("s", 1, numbered=False, at=time.time() + 3600))
        await until(lambda: line.had == ["s-1"])


async def test_a_turn_that_is_given_up_lets_the_next_one_go() -> None:
    async with order() as line:
        first, second = line.enter(a_turn("s", 1)), line.enter(a_turn("s", 2))
        line.enter(a_turn("s", 3))
        await settled()
        second.cancel()
        first.cancel()
        await until(lambda: line.had == ["s-1", "s-3"])


# --- counted once -------------------------------------------------------------------------------------------------


def a_log() -> list[LoggedBatch]:
    """Two sessions over five messages, with turns out of order; a third one ends both."""
    return [
        logged(1, a_turn("s", 1), a_turn("t", 2)),
        logged(2, a_turn("t", 1), a_turn("s", 2)),
        logged(3, a_turn("s", 3)),
        logged(4, a_turn("t", 3), a_turn("s", 4)),
        logged(5, a_turn("u", 1, at=LONG_AGO + 500)),
    ]


def check(scene: Sessions) -> None:
    assert (scene.count("session", "", "ended"), scene.count("session", "", "turns")) == (2, 7)
    assert (scene.count("session", "A", "b"), scene.count("session", "A", "o")) == (1, 1)
    assert scene.count("first_divergence", "A", "2") == 1
    (left,) = scene.store.sessions["memory", 0].open.values()
    assert (left.key.session_id, len(left.turns)) == ("u", 1)


async def test_sessions_are_shadowed_in_order_and_counted_when_they_end() -> None:
    scene = Sessions(*a_log())
    scene.talk.answers["t-2"] = b"no"
    async with scene.working():
        await until(scene.done)
    check(scene)
    for session, turns in (("s", 4), ("t", 3)):
        asked = [each for each in scene.talk.began if each.startswith(session)]
        assert asked == [f"{session}-{number}" for number in range(1, turns + 1)]


_FAULTS = st.lists(st.sampled_from([Fault.LOST_BEFORE, Fault.LOST_AFTER]), max_size=4)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=_FAULTS, killed_at=st.sets(st.integers(1, 12), max_size=3), batch=st.integers(1, 6))
async def test_whatever_strikes_commits_and_whoever_takes_over_sessions_count_the_same(
    faults: Sequence[Fault], killed_at: set[int], batch: int
) -> None:
    scene = Sessions(*a_log())
    scene.workshop = replace(scene.workshop, pace=replace(scene.workshop.pace, batch_captures=batch))
    scene.talk.answers["t-2"] = b"no"
    scene.store.faults.extend(faults)
    for after in sorted(killed_at):
        task = asyncio.create_task(scene.work().run(asyncio.Event()))
        await scene.reached(after, task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with scene.working():
        await until(scene.done)
    check(scene)


async def test_a_retried_turn_is_not_sent_again_and_is_no_turn_of_its_own() -> None:
    again = a_turn("s", 1, request_id="another")
    scene = Sessions(logged(1, a_turn("s", 1), again, a_turn("s", 2)), logged(2, ticked_at=LONG_AGO + 500))
    async with scene.working():
        await until(scene.done)
    assert scene.talk.began == ["s-1", "s-2"]
    assert (scene.count("session", "", "turns"), scene.store.outcome("A", "duplicate")) == (2, 1)


async def test_a_turn_that_live_failed_on_calls_nobody_and_leaves_the_session_whole() -> None:
    scene = Sessions(
        logged(1, a_turn("s", 1), a_turn("s", 2, status_code=14), a_turn("s", 3)), logged(2, ticked_at=LONG_AGO + 500)
    )
    async with scene.working():
        await until(scene.done)
    assert scene.talk.began == ["s-1", "s-3"]
    assert (scene.count("session", "", "turns"), scene.count("session", "A", "o")) == (3, 1)


async def test_turns_of_a_session_that_diverged_are_kept_to_be_looked_at() -> None:
    turns = [a_turn("s", number) for number in range(1, 5)]
    scene = Sessions(*(logged(number, each) for number, each in enumerate(turns, start=1)))
    scene.talk.answers["s-2"] = b"no"
    scene.workshop = replace(scene.workshop, draw=lambda: 1.0, pace=replace(scene.workshop.pace, batch_captures=1))
    async with scene.working():
        await until(scene.done)
    kept = [(each.capture.request_id, each.kept_because) for each in scene.store.comparisons if each.capture.turn != 1]
    assert kept == [("s-2", "diverged"), ("s-3", "session"), ("s-4", "session")]


async def test_a_model_without_sessions_leaves_no_trace_of_them() -> None:
    scene = Sessions(logged(1, replace(CAPTURE, shadows=("A",), session_id="s")))
    scene.source.configuration = a_configuration(an_epoch("A"))
    async with scene.working():
        await until(scene.done)
    assert not scene.store.sessions["memory", 0].open
    assert scene.count("session", "", "without_id") == 0


async def test_requests_without_a_session_are_counted_as_such() -> None:
    scene = Sessions(logged(1, replace(CAPTURE, shadows=("A",))))
    async with scene.working():
        await until(scene.done)
    assert (scene.count("session", "", "without_id"), scene.store.outcome("A", "ok")) == (1, 1)


# --- when no traffic comes ----------------------------------------------------------------------------------------


async def test_a_tick_ends_a_session_when_no_traffic_comes() -> None:
    scene = Sessions(logged(1, a_turn("s", 1)), terms=SessionTerms(idle=0.05, wait=0.0, turn="turn"))
    ticks: list[float] = []

    async def tick(partition: int, now: float) -> None:
        assert partition == 0
        ticks.append(now)
        scene.log.append(logged(2, ticked_at=now))

    scene.workshop = replace(scene.workshop, tick=tick)
    async with scene.working():
        await until(lambda: scene.count("session", "A", "o") == 1)
        await until(scene.done)
    assert not scene.store.sessions["memory", 0].open
    (written,) = ticks
    assert LONG_AGO < written < LONG_AGO + 600, "the log's time goes on, whatever the clock of this machine says"


@pytest.mark.parametrize("trouble", [None, LogFull("full")])
async def test_a_tick_is_written_once_in_a_while_and_its_trouble_is_not_ours(trouble: Exception | None) -> None:
    written: list[float] = []
    now = 50.0

    async def tick(_partition: int, at: float) -> None:
        written.append(at - LONG_AGO)
        if trouble is not None:
            raise trouble

    state = OpenSessions()
    state.add(SessionKey("spam", "s"), Turn(received_at=LONG_AGO, number=1, letters="o"), an_epoch("A"), NUMBERED)
    work = SessionWork(0, Sessions().store, state, tick=tick, monotonic=lambda: now)
    for _ in range(100):
        await work.look_at_the_clock()
        now += 1.0
    due = NUMBERED.idle + NUMBERED.wait + 2
    assert [round(each) for each in written] == [due, due + 10, due + 20, due + 30]
