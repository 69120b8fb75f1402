"""The live path's decisions on time: deadlines, the age of flags, and what a cancelled call leaves behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from fakes import ScriptedStream
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.adapters.streamed_answer import StreamedPrediction
from multishadow_server.core import writes
from multishadow_server.core.capture import Capture, CaptureBatch, Metadata
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.live_counts import LiveTally
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.protocols import Protocol
from multishadow_server.core.routing import Claim
from multishadow_server.core.sampling_share import draw
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.version_limits import NO_LIMITS, VersionLimits
from multishadow_server.core.writes import Writes
from multishadow_server.errors import DeadlineExpired, FailedPrecondition, InvalidInput, Unavailable
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.live_path import LivePath, LiveRequest
from multishadow_server.service.live_stream import LiveStream, Streaming
from multishadow_server.service.ports import Answer, AnswerStream
from multishadow_server.service.sampling_watch import Sampling

NAMES = ("base", "A")
CLAIMS = {"base": Claim.LIVE, "A": Claim.SHADOW}
REQUEST = LiveRequest(
    method="/m", body=b"?", model="spam", request_id="r", session_id="", attributes={}, metadata=(), deadline=110.0,
    received_at=6e8,
)  # fmt: skip


class FakeGateway:
    """Versions in memory; what a test wants happens during each call."""

    def __init__(self, during: Callable[[str], None] = lambda _: None) -> None:
        self.during = during
        self.answers: dict[str, Answer] = {}
        self.streams: dict[str, AnswerStream] = {}
        self.called: list[tuple[str, float | None]] = []
        self.bodies: list[bytes] = []
        self.hangs = False

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        self.called.append((address, deadline))
        self.bodies.append(request)
        self.during(address)
        if self.hangs:
            await asyncio.Event().wait()
        return self.answers.get(address, Answer(status_code=0, response=b"!"))

    def stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> AnswerStream:
        self.called.append((address, deadline))
        self.bodies.append(request)
        return self.streams[address]

    async def call_stream(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        raise AssertionError("routers pass streams on")

    async def aclose(self) -> None:
        """Nothing is open."""


class NoLog:
    """Nothing is ever appended here: no test runs the buffer."""

    partitions = 1
    largest_message = 1 << 20

    async def append(self, partition: int, batch: CaptureBatch, *, message_id: str) -> None:
        raise AssertionError("not in these tests")


class Kept(CaptureBuffer):
    """A buffer that keeps what it is offered where a test can see it."""

    def __init__(self, captures: list[Capture]) -> None:
        limits = Limits(buffer_captures=1, buffer_bytes=1, flush_interval=1, flush_captures=1, flush_bytes=1)
        super().__init__(NoLog(), router="r", limits=limits)
        self._captures = captures

    def drop(self, capture: Capture, reason: str) -> None:
        self.dropped[reason] += 1

    def offer(self, size: int, capture: Callable[[], Capture]) -> bool:
        self._captures.append(capture())
        assert self._captures[-1].size == size
        return True


@dataclass(slots=True)
class World:
    """A live path with time and the flags' age in a test's hands."""

    gateway: FakeGateway = field(default_factory=FakeGateway)
    now: float = 100.0
    flag_age: float = 0.0
    claims: OpenFeatureClaims = field(default_factory=lambda: OpenFeatureClaims(ConfigurationProvider()))
    captured: list[Capture] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    sampling: Sampling = field(default_factory=Sampling)
    served: LiveTally = field(default_factory=LiveTally)
    buffer: CaptureBuffer = field(init=False)

    def __post_init__(self) -> None:
        self.buffer = Kept(self.captured)
        self.buffer.dropped = self.dropped

    def live_path(self) -> LivePath:
        return LivePath(
            gateway=self.gateway,
            claims=self.claims,
            buffer=self.buffer,
            sampling=self.sampling,
            fingerprint=lambda _protocol, model, body: b"%b asked %b" % (model.encode(), body),
            streaming=Streaming(collect=StreamedPrediction, largest=100, room=150),
            flag_age=lambda: self.flag_age,
            stale_after=10.0,
            monotonic=lambda: self.now,
            served=self.served,
        )


def configuration(claims: dict[str, Claim], revision: int = 1, *, oip: bool = False) -> Configuration:
    names = {name: f"at-{name}" if oip else "" for name in NAMES}
    versions = tuple(Version(model="spam", name=name, address=name, served_name=names[name]) for name in NAMES)
    protocol = Protocol.OIP if oip else Protocol.MULTISHADOW
    flags = {f"spam.{name}": claim_definition("spam", claim) for name, claim in claims.items()}
    model = Model(name="spam", comparator=Comparator(protocol=protocol), versions=versions, default_timeout=3.0)
    return Configuration(revision=revision, models={"spam": model}, flags=flags)


@pytest.fixture
def world() -> World:
    return World()


async def test_an_expired_deadline_is_refused_without_calling_anybody(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    with pytest.raises(DeadlineExpired, match="was not called"):
        await path.answer(replace(REQUEST, deadline=100.0))
    assert (world.gateway.called, world.captured) == ([], [])


async def test_the_deadline_is_the_callers_or_the_models(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    await path.answer(REQUEST)
    await path.answer(replace(REQUEST, deadline=None))
    assert world.gateway.called == [("base", 110.0), ("base", 103.0)]


async def test_before_the_first_reading_nobody_is_called(world: World) -> None:
    with pytest.raises(Unavailable, match="has not read its configuration yet"):
        await world.live_path().answer(REQUEST)


async def test_flags_older_than_allowed_stop_shadowing_until_they_are_fresh_again(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    for age, captures in ((10.0, 1), (10.1, 1), (float("inf"), 1), (0.0, 2)):
        world.flag_age = age
        assert (await path.answer(REQUEST)).version == "base"
        assert len(world.captured) == captures


async def test_a_request_is_captured_with_its_fingerprint(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    await path.answer(REQUEST)
    assert [capture.fingerprint for capture in world.captured] == [b"spam asked ?"]


async def test_turns_of_a_session_meet_whatever_they_ask_and_are_told_apart_by_their_number(world: World) -> None:
    path, known = world.live_path(), configuration(CLAIMS)
    terms = SessionTerms(turn="turn")
    path.load(replace(known, models={"spam": replace(known.models["spam"], sessions=terms)}))

    async def captured(**fields: Any) -> Capture:
        await path.answer(replace(REQUEST, **fields))
        return world.captured[-1]

    first = await captured(session_id="s", attributes={"turn": 1.0})
    again = await captured(session_id="s", attributes={"turn": 1.0}, request_id="a retry", body=b"other words")
    second = await captured(session_id="s", attributes={"turn": 2.0})
    unnumbered = await captured(session_id="s")
    another = await captured(session_id="t", attributes={"turn": 1.0})
    turns = [first, again, second, unnumbered]
    assert {each.partition_key for each in turns} == {b"spam\0s"} != {another.partition_key}
    assert [each.turn for each in turns] == [1, 1, 2, None]
    assert first.fingerprint == again.fingerprint
    assert len({each.fingerprint for each in (*turns, another)}) == 4
    alone = await captured()
    assert (alone.in_session, alone.partition_key) == (False, b"spam asked ?")


async def test_a_session_of_a_model_without_sessions_is_captured_by_its_input(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    await path.answer(replace(REQUEST, session_id="s", attributes={"turn": 1.0}))
    (capture,) = world.captured
    assert (capture.in_session, capture.turn, capture.partition_key) == (False, None, b"spam asked ?")


@pytest.mark.parametrize("after", [0.0, 9.8])
async def test_a_cancelled_call_is_counted_and_not_captured(world: World, after: float) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.hangs = True
    call = asyncio.create_task(path.answer(REQUEST))
    await asyncio.sleep(0)
    world.now += after
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert (world.captured, path.counters["cancelled"]) == ([], 1)


@pytest.mark.parametrize(
    ("limit", "cancelled_after"),
    # By the clock here; and as early as a caller's own clock may have it (see ROUNDED_UP).
    [(10.0, 10.0), (10.0, 9.86), (0.1, 0.09)],
)
async def test_a_call_cancelled_by_its_deadline_is_the_live_versions_failure(
    world: World, limit: float, cancelled_after: float
) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.hangs = True
    call = asyncio.create_task(path.answer(replace(REQUEST, deadline=100.0 + limit)))
    await asyncio.sleep(0)
    world.now = 100.0 + cancelled_after
    call.cancel()
    await asyncio.wait([call])
    (capture,) = world.captured
    assert (capture.status_code, path.counters["cancelled"]) == (4, 0)
    assert capture.live_latency == pytest.approx(cancelled_after)


async def test_an_older_live_version_answers_for_an_unavailable_one_and_is_counted(world: World) -> None:
    path = world.live_path()
    path.load(configuration({"base": Claim.LIVE, "A": Claim.LIVE}))
    world.gateway.answers["A"] = Answer(status_code=14, status_message="restarting")
    found = await path.answer(REQUEST)
    assert (found.version, found.answer.response, path.counters["fallbacks"]) == ("base", b"!", 1)
    assert world.captured == []  # whom it would be compared with is the one that is down


async def test_when_all_are_unavailable_the_newest_ones_own_words_reach_the_caller(world: World) -> None:
    path = world.live_path()
    path.load(configuration({"base": Claim.LIVE, "A": Claim.LIVE}))
    world.gateway.answers["A"] = Answer(status_code=14, status_message="restarting")
    world.gateway.answers["base"] = Answer(status_code=14, status_message="gone")
    found = await path.answer(REQUEST)
    assert (found.version, found.answer.status_message, path.counters["fallbacks"]) == ("A", "restarting", 0)


async def test_a_request_under_way_keeps_its_decision_when_the_flags_change(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.during = lambda _: path.load(configuration({"base": Claim.LIVE, "A": Claim.LIVE}, revision=2))
    first, second = await path.answer(REQUEST), await path.answer(REQUEST)
    assert [(found.version, found.revision) for found in (first, second)] == [("base", 1), ("A", 2)]
    assert [(capture.live, capture.revision) for capture in world.captured] == [("base", 1), ("A", 2)]


async def test_a_method_of_another_protocol_than_the_models_is_refused_with_the_right_one(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    ask = "`protocol: multishadow`: call multishadow.v1.PredictionService/Predict"
    for call in (path.answer, path.stream, path.pass_on):
        with pytest.raises(FailedPrecondition, match=ask):
            await call(replace(REQUEST, protocol=Protocol.OIP))
    path.load(configuration(CLAIMS, oip=True))
    with pytest.raises(FailedPrecondition, match="`protocol: oip`: call inference"):
        await path.answer(REQUEST)
    with pytest.raises(InvalidInput, match="set its field `model_name`"):
        await path.answer(replace(REQUEST, model="", protocol=Protocol.OIP))
    assert world.gateway.called == []


async def test_each_version_is_asked_by_its_own_name_and_captured_by_the_callers(world: World) -> None:
    path = world.live_path()
    path.load(configuration({"base": Claim.LIVE, "A": Claim.LIVE}, oip=True))
    world.gateway.answers["A"] = Answer(status_code=14)
    await path.answer(replace(REQUEST, protocol=Protocol.OIP))
    assert world.gateway.bodies == [b"?\x0a\x04at-A", b"?\x0a\x07at-base"]
    assert [capture.request for capture in world.captured] == []


async def test_what_is_asked_of_the_live_version_itself_is_neither_counted_nor_captured(world: World) -> None:
    served = LiveTally()
    path = world.live_path()
    path._served = served
    path.load(configuration(CLAIMS))
    assert (await path.pass_on(REQUEST)).version == "base"
    assert (world.captured, path.counters, served.changed()) == ([], {"passed_on": 1}, {})


def chunk(text: str) -> bytes:
    return prediction_pb2.PredictResponse(text=text).SerializeToString()


async def everything(stream: LiveStream) -> list[bytes]:
    found = []
    while (message := await stream.next()) is not None:
        found.append(message)
    return found


async def test_a_stream_is_passed_on_and_captured_whole(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.streams["base"] = ScriptedStream([chunk("a"), chunk("b")], Answer(status_code=0, latency=3.0))
    stream = await path.stream(REQUEST)
    assert (stream.initial_metadata, stream.version) == ((("x-first", "1"),), "base")
    assert await everything(stream) == [chunk("a"), chunk("b")]
    stream.close()
    (capture,) = world.captured
    assert (capture.response, capture.live_latency, capture.live_first_latency) == (chunk("ab"), 3.0, 0.25)
    assert path.counters == {"requests": 1, "sampled": 1}


async def test_an_older_version_streams_only_if_the_newer_one_said_nothing(world: World) -> None:
    path = world.live_path()
    path.load(configuration({"base": Claim.LIVE, "A": Claim.LIVE}))
    world.gateway.streams["A"] = ScriptedStream([], Answer(status_code=14))
    world.gateway.streams["base"] = ScriptedStream([chunk("b")], Answer(status_code=0))
    stream = await path.stream(REQUEST)
    assert (stream.version, await everything(stream)) == ("base", [chunk("b")])
    assert path.counters["fallbacks"] == 1
    world.gateway.streams["A"] = ScriptedStream([chunk("a")], Answer(status_code=14))
    stream = await path.stream(REQUEST)
    assert (stream.version, await everything(stream)) == ("A", [chunk("a")])
    assert stream.ended().status_code == 14
    assert path.counters["fallbacks"] == 1


async def test_a_stream_that_fails_midway_is_a_failure_of_the_live_version(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.streams["base"] = ScriptedStream([chunk("a")], Answer(status_code=13, status_message="broke"))
    stream = await path.stream(REQUEST)
    await everything(stream)
    assert stream.ended().status_message == "broke"
    (capture,) = world.captured
    assert (capture.status_code, capture.response) == (13, b"")
    assert path.counters["live_failures"] == 1


async def test_a_stream_that_is_too_large_is_passed_on_and_counted_as_dropped(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.streams["base"] = ScriptedStream([chunk("x" * 60)] * 2, Answer(status_code=0))
    stream = await path.stream(REQUEST)
    assert len(await everything(stream)) == 2
    assert (world.captured, world.dropped) == ([], {"too_large": 1})


async def test_a_stream_that_is_not_captured_takes_no_room_from_those_that_are(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    marked = replace(REQUEST, metadata=((writes.MARK, "1"),))
    for left_out in (marked, replace(REQUEST, replayed=True)):
        hung = ScriptedStream([chunk("x" * 90)], Answer(status_code=0), hangs=True)
        world.gateway.streams["base"] = hung
        await (await path.stream(left_out)).next()
    world.gateway.streams["base"] = ScriptedStream([chunk("y" * 90)], Answer(status_code=0))
    await everything(await path.stream(REQUEST))
    assert (len(world.captured), world.dropped) == (1, {})
    world.gateway.streams["base"] = ScriptedStream([chunk("z")], Answer(status_code=0))
    await everything(await path.stream(marked))
    assert (path.counters["sampled"], path.counters["writes.not_shadowed"], len(world.captured)) == (1, 1, 1)


async def test_a_share_that_rises_while_an_answer_streams_captures_nothing_that_was_not_kept(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.sampling.share = 0.0
    world.gateway.streams["base"] = ScriptedStream([chunk("a")], Answer(status_code=0))
    stream = await path.stream(REQUEST)
    world.sampling.share = 1.0
    await everything(stream)
    assert (world.captured, path.counters["sampling.passed_over"]) == ([], 1)


async def test_a_caller_who_leaves_a_stream_ends_the_live_call_and_is_not_captured(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    live = ScriptedStream([chunk("a")], Answer(status_code=0), hangs=True)
    world.gateway.streams["base"] = live
    stream = await path.stream(REQUEST)
    await stream.next()
    assert path._room.used == 1
    for _ in range(2):
        stream.close()
    assert (live.cancelled, world.captured, path._room.used) == (True, [], 0)
    assert path.counters == {"requests": 1, "cancelled": 1}


async def test_a_stream_that_outlasts_the_deadline_is_a_timeout_of_the_live_version(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.streams["base"] = ScriptedStream([chunk("a")], Answer(status_code=0), hangs=True)
    stream = await path.stream(REQUEST)
    world.now = 110.0
    stream.close()
    assert [capture.status_code for capture in world.captured] == [4]


# --- what is not captured -----------------------------------------------------------------------------------------


def limited(limits: VersionLimits = NO_LIMITS, **model: object) -> Configuration:
    """A is limited, B is not, and both shadow."""
    plain = configuration({**CLAIMS, "B": Claim.SHADOW})
    versions = tuple(
        Version(model="spam", name=name, address=name, limits=limits if name == "A" else NO_LIMITS)
        for name in (*NAMES, "B")
    )
    spam = replace(plain.models["spam"], versions=versions, **model)  # type: ignore[arg-type]  # fields by name
    return replace(plain, models={"spam": spam})


@pytest.mark.parametrize(
    ("writes", "request_", "captured"),
    [
        (Writes(), REQUEST, 1),
        (Writes(all=True), REQUEST, 0),
        (Writes(methods=("m",)), REQUEST, 0),
        (Writes(methods=("/m",)), replace(REQUEST, method="/other"), 1),
        (Writes(), replace(REQUEST, metadata=(("x-multishadow-write", "true"),)), 0),
        (Writes(), replace(REQUEST, attributes={"x-multishadow-write": True}), 0),
    ],
)
async def test_a_request_that_writes_is_answered_counted_and_never_captured(
    world: World, writes: Writes, request_: LiveRequest, captured: int
) -> None:
    path = world.live_path()
    path.load(limited(writes=writes))
    assert (await path.answer(request_)).answer.response == b"!"
    assert (len(world.captured), path.counters["writes.not_shadowed"]) == (captured, 1 - captured)
    assert path.counters["sampled"] == captured
    assert not world.buffer.dropped


async def test_a_writing_request_that_nobody_shadows_is_no_attempt(world: World) -> None:
    path = world.live_path()
    path.load(replace(limited(writes=Writes(all=True)), flags=configuration({"base": Claim.LIVE}).flags))
    await path.answer(REQUEST)
    assert path.counters["writes.not_shadowed"] == 0


@pytest.mark.parametrize(
    ("limits", "model_cap", "size", "captured"),
    [
        (NO_LIMITS, None, 1_000, True),
        (NO_LIMITS, 100, 100, True),
        (NO_LIMITS, 100, 101, False),
        (VersionLimits(max_request_bytes=100), None, 101, True),
        (VersionLimits(max_request_bytes=1_000), 100, 101, False),
    ],
)
async def test_a_request_that_no_shadow_may_get_for_its_size_takes_no_room_and_is_counted(
    world: World, limits: VersionLimits, model_cap: int | None, size: int, captured: bool
) -> None:
    path = world.live_path()
    path.load(limited(limits, max_request_bytes=model_cap))
    await path.answer(replace(REQUEST, body=bytes(size)))
    assert len(world.captured) == captured
    assert world.buffer.dropped == ({} if captured else {"too_large": 1})
    assert (world.buffer.held_captures, path.counters["sampled"]) == (0, 1)


async def test_a_lower_sampling_keeps_whole_sessions_of_those_below_it(world: World) -> None:
    path = world.live_path()
    path.load(limited())
    world.sampling.share = 0.3
    sessions = [f"s-{number}" for number in range(200)]
    for session in sessions:
        for turn in range(2):
            await path.answer(replace(REQUEST, session_id=session, request_id=f"{session}-{turn}"))
    kept = [session for session in sessions if draw("spam", session_id=session, request_id="") < 0.3]
    assert [capture.session_id for capture in world.captured] == [session for session in kept for _ in range(2)]
    assert all(set(capture.shadows) == {"A", "B"} for capture in world.captured)
    assert path.counters["sampling.passed_over"] == 400 - 2 * len(kept)
    assert 30 < len(kept) < 90


async def test_a_replayed_request_is_answered_and_neither_captured_nor_counted(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    assert (await path.answer(replace(REQUEST, replayed=True))).answer.response == b"!"
    assert (world.captured, world.served.changed(), path.counters["replayed"]) == ([], {}, 1)
    await path.answer(REQUEST)
    assert len(world.captured) == sum(count.requests for count in world.served.changed().values()) == 1
