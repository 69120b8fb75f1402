"""Whether a copy may be sent: pauses, caps, rates, budgets and circuits of one worker, and its share of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from fakes import EqualBytes, ScriptedGateway
from multishadow_server.core.capture import Capture
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.live_rates import Counted
from multishadow_server.core.model import Comparator, Model, Version
from multishadow_server.core.version_limits import NO_LIMITS, CircuitTerms, Pause, VersionLimits
from multishadow_server.core.writes import Writes
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.in_flight import CallSlots
from multishadow_server.service.live_load import LiveLoad
from multishadow_server.service.ports import Answer
from multishadow_server.service.shadowing import Shadowing
from multishadow_server.service.version_guard import VersionGuard
from waiting import until

AGREES, FAILS = Answer(status_code=0, response=b"yes"), Answer(status_code=14)
EPOCH = Epoch(
    id=1, experiment_id=1, model="spam", number=1, live="base", candidates=("A", "B"), comparator=Comparator(),
    from_revision=1, until_revision=None, opened_at=0.0, reason="", bucket_seconds=3600,
)  # fmt: skip


def a_capture(number: int = 1, *, request: bytes = b"question", **more: object) -> Capture:
    capture = Capture(
        request_id=f"r-{number}", session_id="", model="spam", method="/p.S/M", attributes={}, request=request,
        metadata=(), live="base", shadows=("A", "B"), revision=1, response=b"yes", status_code=0, status_message="",
        live_latency=0.01, received_at=1000.0,
    )  # fmt: skip
    return replace(capture, **more)  # type: ignore[arg-type]  # fields by name


def a_configuration(
    limits: VersionLimits = NO_LIMITS,
    *,
    pause: Pause | None = None,
    revision: int = 1,
    address: str = "at-A",
    **model: object,
) -> Configuration:
    """B is without limits."""
    versions = (
        Version(model="spam", name="base", address="at-base"),
        Version(model="spam", name="A", address=address, limits=limits, pause=pause),
        Version(model="spam", name="B", address="at-B"),
    )
    spam = replace(Model(name="spam", versions=versions), **model)  # type: ignore[arg-type]  # fields by name
    return Configuration(revision=revision, models={"spam": spam}, epochs=(EPOCH,))


@dataclass(slots=True)
class Bench:
    """Shadowing with a guard, and time and this worker's share in a test's hands."""

    configuration: Configuration
    answer: Callable[[str], Answer] = lambda _: AGREES
    now: float = 50.0
    share: float = 1.0
    gateway: ScriptedGateway = field(init=False)
    guard: VersionGuard = field(init=False)
    shadowing: Shadowing = field(init=False)

    def __post_init__(self) -> None:
        self.gateway = ScriptedGateway(self._answer)
        self.guard = VersionGuard(
            share=lambda: self.share, clock=lambda: 2_000.0 + self.now, monotonic=lambda: self.now, sleep=self._sleep
        )
        self.shadowing = Shadowing(gateway=self.gateway, comparer=EqualBytes(), slots=CallSlots(), guard=self.guard)

    def _answer(self, address: str) -> Answer:
        return self.answer(address)

    async def _sleep(self, _seconds: float) -> None:
        """No time passes but the test's."""

    async def outcomes(self, *captures: Capture) -> Counter[tuple[str, str]]:
        """What became of these, one after the other: (version, outcome or reason)."""
        counted: Counter[tuple[str, str]] = Counter()
        for capture in captures:
            shadowed = await self.shadowing.shadow(capture, self.configuration)
            counted.update((each.version, each.reason or each.outcome) for each in shadowed.observations)
        return counted

    def calls(self, version: str) -> int:
        return sum(address == f"at-{version}" for address, _, _ in self.gateway.calls)


async def test_a_paused_version_is_not_called_and_the_other_is_compared_as_before() -> None:
    bench = Bench(a_configuration(pause=Pause(since=0.0, until=None, by="ann")))
    assert await bench.outcomes(a_capture()) == Counter({("A", "paused"): 1, ("B", "ok"): 1})
    assert (bench.calls("A"), bench.calls("B")) == (0, 1)


async def test_a_pause_ends_by_itself() -> None:
    bench = Bench(a_configuration(pause=Pause(since=0.0, until=2_060.0, by="ann")), now=59.9)
    assert ("A", "paused") in await bench.outcomes(a_capture())
    bench.now = 60.0
    assert ("A", "ok") in await bench.outcomes(a_capture())


async def test_a_pause_holds_for_captures_that_were_decided_before_it() -> None:
    bench = Bench(a_configuration())
    bench.guard.follow(a_configuration(pause=Pause(since=0.0, until=None, by="ann"), revision=2))
    assert ("A", "paused") in await bench.outcomes(a_capture())
    bench.guard.follow(a_configuration(revision=3))
    assert ("A", "ok") in await bench.outcomes(a_capture())


async def test_a_pause_that_comes_while_a_copy_waits_for_its_turn_holds_for_it() -> None:
    configuration = a_configuration()
    spam = configuration.models["spam"]
    narrow = tuple(replace(version, max_in_flight=1) for version in spam.versions)
    bench = Bench(replace(configuration, models={"spam": replace(spam, versions=narrow)}))
    bench.gateway.open.clear()
    first = asyncio.create_task(bench.outcomes(a_capture(1, shadows=("A",))))
    second = asyncio.create_task(bench.outcomes(a_capture(2, shadows=("A",))))
    await until(lambda: bench.calls("A") == 1)
    bench.guard.follow(a_configuration(pause=Pause(since=0.0, until=None, by="ann"), revision=2))
    bench.gateway.open.set()
    assert await first == Counter({("A", "ok"): 1})
    assert await second == Counter({("A", "paused"): 1})


async def test_a_request_over_a_versions_cap_is_copied_to_the_others_only() -> None:
    bench = Bench(a_configuration(VersionLimits(max_request_bytes=8)))
    assert await bench.outcomes(a_capture()) == Counter({("A", "ok"): 1, ("B", "ok"): 1})
    assert await bench.outcomes(a_capture(request=b"question?")) == Counter({("A", "too_large"): 1, ("B", "ok"): 1})


async def test_nobody_gets_what_writes_or_is_over_the_models_cap_though_it_is_in_the_log_already() -> None:
    dropped = Counter({("A", "writes"): 1, ("B", "writes"): 1})
    bench = Bench(a_configuration())
    bench.guard.follow(a_configuration(revision=2, writes=Writes(all=True)))
    assert await bench.outcomes(a_capture()) == dropped
    bench.guard.follow(a_configuration(revision=3, writes=Writes(methods=("M",))))
    assert await bench.outcomes(a_capture()) == dropped
    bench.guard.follow(a_configuration(revision=4, writes=Writes(methods=("Other",))))
    assert await bench.outcomes(a_capture(metadata=(("x-multishadow-write", "true"),))) == dropped
    assert not bench.gateway.calls
    bench.guard.follow(a_configuration(revision=5, max_request_bytes=7))
    assert await bench.outcomes(a_capture()) == Counter({("A", "too_large"): 1, ("B", "too_large"): 1})
    assert not bench.gateway.calls


async def test_a_rate_is_divided_by_the_partitions_that_a_worker_has() -> None:
    limits = VersionLimits(requests_per_second=40)
    sent = {}
    for share in (1.0, 0.25):
        bench = Bench(a_configuration(limits), share=share)
        for number in range(4_000):
            bench.now = 50.0 + number / 200
            await bench.outcomes(a_capture(number, shadows=("A",)))
        sent[share] = bench.calls("A")
    assert sent[1.0] == pytest.approx(40 * 20, rel=0.15)
    assert sent[0.25] == pytest.approx(10 * 20, rel=0.15)


async def test_every_copy_is_counted_once_whatever_holds_it_back() -> None:
    limits = VersionLimits(requests_per_second=20, bytes_per_second=1_000, circuit=CircuitTerms(failures=5))
    bench = Bench(a_configuration(limits))
    bench.answer = lambda address: FAILS if address == "at-A" and 60 < bench.now < 62 else AGREES
    counted: Counter[tuple[str, str]] = Counter()
    for number in range(2_000):
        bench.now = 50.0 + number / 100
        counted += await bench.outcomes(a_capture(number))
    of_a = {reason: count for (version, reason), count in counted.items() if version == "A"}
    assert sum(of_a.values()) == 2_000
    assert {"ok", "rate_limit", "circuit_open", "UNAVAILABLE"} <= of_a.keys()
    assert counted["B", "ok"] == 2_000
    assert bench.calls("A") == of_a["ok"] + of_a["UNAVAILABLE"]


async def test_a_shadow_that_fails_is_left_in_peace_tried_and_called_again() -> None:
    bench = Bench(a_configuration(VersionLimits(circuit=CircuitTerms(failures=5))), answer=lambda _: FAILS)
    down = await bench.outcomes(*(a_capture(number, shadows=("A",)) for number in range(50)))
    assert down == Counter({("A", "UNAVAILABLE"): 5, ("A", "circuit_open"): 45})
    assert bench.guard.counters() == {"circuits.opened": 1, "circuit_open.spam.A": 1}
    bench.now += 1.0
    assert await bench.outcomes(*(a_capture(number, shadows=("A",)) for number in range(10))) == Counter(
        {("A", "UNAVAILABLE"): 1, ("A", "circuit_open"): 9}
    )
    bench.answer, bench.now = lambda _: AGREES, bench.now + 2.0
    assert await bench.outcomes(*(a_capture(number, shadows=("A",)) for number in range(10))) == Counter(
        {("A", "ok"): 10}
    )
    assert bench.guard.counters() == {"circuits.opened": 1, "circuit_open.spam.A": 0}


async def test_copies_that_wait_for_their_turn_are_not_sent_to_a_version_that_fails_meanwhile() -> None:
    configuration = a_configuration(VersionLimits(circuit=CircuitTerms(failures=3)))
    spam = configuration.models["spam"]
    narrow = tuple(replace(version, max_in_flight=1) for version in spam.versions)
    bench = Bench(replace(configuration, models={"spam": replace(spam, versions=narrow)}), answer=lambda _: FAILS)
    bench.gateway.open.clear()
    waiting = [asyncio.create_task(bench.outcomes(a_capture(number, shadows=("A",)))) for number in range(20)]
    await until(lambda: bench.calls("A") == 1)
    bench.gateway.open.set()
    counted = sum([await each for each in waiting], Counter[tuple[str, str]]())
    assert counted == Counter({("A", "UNAVAILABLE"): 3, ("A", "circuit_open"): 17})
    assert bench.calls("A") == 3


async def test_an_answer_that_refuses_the_request_is_no_failure_of_the_version() -> None:
    bench = Bench(
        a_configuration(VersionLimits(circuit=CircuitTerms(failures=3))), answer=lambda _: Answer(status_code=3)
    )
    assert await bench.outcomes(*(a_capture(number, shadows=("A",)) for number in range(20))) == Counter(
        {("A", "INVALID_ARGUMENT"): 20}
    )


async def test_a_probe_that_was_not_made_leaves_its_place_to_the_next() -> None:
    limits = VersionLimits(requests_per_second=1e-6, circuit=CircuitTerms(failures=1))
    bench = Bench(a_configuration(limits), answer=lambda _: FAILS)
    await bench.outcomes(a_capture(shadows=("A",)))
    bench.now += 1.0
    for number in range(3):
        counted = await bench.outcomes(a_capture(number, shadows=("A",)))
        assert counted == Counter({("A", "rate_limit"): 1}), "each of them was let through by the circuit"


async def test_another_address_is_another_implementation_and_begins_with_a_closed_circuit() -> None:
    limits = VersionLimits(circuit=CircuitTerms(failures=1))
    bench = Bench(a_configuration(limits), answer=lambda _: FAILS)
    assert await bench.outcomes(a_capture(1), a_capture(2)) >= Counter({("A", "circuit_open"): 1})
    bench.configuration = a_configuration(limits, revision=2, address="elsewhere")
    assert ("A", "UNAVAILABLE") in await bench.outcomes(a_capture(3))


async def test_copies_get_what_callers_leave_of_the_budget() -> None:
    bench = Bench(a_configuration(VersionLimits(capacity=100, utilisation=0.7)))
    bench.guard.follow(bench.configuration)
    assert bench.guard.budgeted == {("spam", "A")}

    async def sent(per_second: float) -> int:
        before = bench.calls("A")
        for number in range(2_000):
            bench.now += 1 / per_second
            await bench.outcomes(a_capture(number, shadows=("A",)))
        return bench.calls("A") - before

    assert await sent(200) == pytest.approx(70 * 10, rel=0.15)
    bench.guard.note_live({("spam", "A"): 40.0})
    assert await sent(200) == pytest.approx(30 * 10, rel=0.25)
    bench.guard.note_live({("spam", "A"): 90.0})
    assert ("A", "budget") in await bench.outcomes(a_capture(shadows=("A",)))
    assert await sent(200) <= 1


class Counts:
    """A LiveCountReader: A answers 30 requests a second; `away` makes reading fail."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[Sequence[str]] = []
        self.away = False

    async def requests(
        self, models: Sequence[str], *, began_within: float
    ) -> tuple[Mapping[Counted, int], frozenset[Counted]]:
        self.asked.append(models)
        self.now += 1
        if self.away:
            raise StoreUnavailable("away")
        return {Counted("spam", "A", 1, "r"): round(30 * self.now)}, frozenset()


class ListeningGuard(VersionGuard):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Mapping[tuple[str, str], float]] = []

    def note_live(self, rates: Mapping[tuple[str, str], float]) -> None:
        super().note_live(rates)
        self.noted.append(rates)


async def test_what_versions_answer_callers_is_read_only_where_a_budget_asks_for_it() -> None:
    guard, counts, stop = ListeningGuard(), Counts(), asyncio.Event()
    noted = guard.noted
    guard.follow(a_configuration(VersionLimits(requests_per_second=1)))
    looking = asyncio.create_task(LiveLoad(counts, guard, interval=0.001, monotonic=lambda: counts.now).run(stop))
    try:
        await asyncio.sleep(0)
        assert not counts.asked
        guard.follow(a_configuration(VersionLimits(capacity=100), revision=2))
        await until(lambda: len(noted) > 3)
        assert counts.asked[0] == ["spam"]
        assert noted[:2] == [{}, {("spam", "A"): 30.0}]
        counts.away = True
        told, asked = len(noted), len(counts.asked)
        await until(lambda: len(counts.asked) > asked + 2)
        assert len(noted) <= told + 1, "what was known last stays"
        counts.away = False
        await until(lambda: len(noted) > told + 2)
    finally:
        stop.set()
        await looking
