"""The live path's decisions on time: deadlines, the age of flags, and what a cancelled call leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from multishadow_server.adapters.openfeature_flags import ConfigurationProvider, OpenFeatureClaims
from multishadow_server.core.capture import Capture, CaptureBatch, Metadata
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.live_counts import LiveTally
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.errors import DeadlineExpired, Unavailable
from multishadow_server.service.capture_buffer import CaptureBuffer, Limits
from multishadow_server.service.live_path import LivePath, LiveRequest
from multishadow_server.service.ports import Answer

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
        self.called: list[tuple[str, float | None]] = []
        self.hangs = False

    async def call(
        self, address: str, method: str, request: bytes, *, metadata: Metadata, deadline: float | None
    ) -> Answer:
        self.called.append((address, deadline))
        self.during(address)
        if self.hangs:
            await asyncio.Event().wait()
        return self.answers.get(address, Answer(status_code=0, response=b"!"))

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
    served: LiveTally = field(default_factory=LiveTally)

    def live_path(self) -> LivePath:
        return LivePath(
            gateway=self.gateway,
            claims=self.claims,
            buffer=Kept(self.captured),
            fingerprint=lambda model, body: b"%b asked %b" % (model.encode(), body),
            flag_age=lambda: self.flag_age,
            stale_after=10.0,
            monotonic=lambda: self.now,
            served=self.served,
        )


def configuration(claims: dict[str, Claim], revision: int = 1) -> Configuration:
    versions = tuple(Version(model="spam", name=name, address=name) for name in NAMES)
    flags = {f"spam.{name}": claim_definition("spam", claim) for name, claim in claims.items()}
    return Configuration(
        revision=revision, models={"spam": Model(name="spam", versions=versions, default_timeout=3.0)}, flags=flags
    )


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


async def test_a_cancelled_call_is_counted_and_not_captured(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.hangs = True
    call = asyncio.create_task(path.answer(REQUEST))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert (world.captured, path.counters["cancelled"]) == ([], 1)


async def test_a_call_cancelled_by_its_deadline_is_the_live_versions_failure(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    world.gateway.hangs = True
    call = asyncio.create_task(path.answer(REQUEST))
    await asyncio.sleep(0)
    world.now = 110.0
    call.cancel()
    await asyncio.wait([call])
    (capture,) = world.captured
    assert (capture.status_code, capture.live_latency, path.counters["cancelled"]) == (4, 10.0, 0)


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


async def test_a_replayed_request_is_answered_and_neither_captured_nor_counted(world: World) -> None:
    path = world.live_path()
    path.load(configuration(CLAIMS))
    assert (await path.answer(replace(REQUEST, replayed=True))).answer.response == b"!"
    assert (world.captured, world.served.changed(), path.counters["replayed"]) == ([], {}, 1)
    await path.answer(REQUEST)
    assert len(world.captured) == sum(count.requests for count in world.served.changed().values()) == 1
