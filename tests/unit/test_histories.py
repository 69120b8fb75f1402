"""Over any history of flags, every request finds exactly one live version, samples nest, and stages only widen.

Histories are made by what changes flags in earnest: experiments that start, climb, close their windows and stop, single
flags that are set, promotions of newer and of older versions at any share, rollbacks, and targeting rules that people
write. Readers are requests with random sessions and attributes, and some of them are overtaken by a revision.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from memory_control import MemoryControl
from multishadow_server.core import promotion, routing, serving, windows
from multishadow_server.core.flags import claim_definition, copied_share, describe
from multishadow_server.core.model import Model, Version
from multishadow_server.core.routing import Claim
from multishadow_server.core.schedule import Schedule
from multishadow_server.core.serving import Flags
from multishadow_server.core.targeting import compile_flag, context_of
from multishadow_server.errors import MultishadowError
from multishadow_server.service import experiments, flags, steering
from multishadow_server.service.ports import ControlStore

NAMES = ("base", "A", "B", "C")
SPAM = Model(
    name="spam",
    versions=tuple(Version(model="spam", name=name, address="h:1", ordinal=place) for place, name in enumerate(NAMES)),
)
HALF_HOUR = 1_800.0
NIGHT = windows.parse("22:00-06:00 Europe/Berlin")
RULES: Sequence[Mapping[str, Any]] = (
    {"if": [{"==": [{"var": "country"}, "NO"]}, "live", "off"]},
    {"if": [{"==": [{"var": "country"}, "NO"]}, "shadow", "off"]},
    {"if": [{"in": [{"var": "country"}, ["NO", "SE"]]}, {"fractional": [["live", 30], ["shadow", 70]]}, "shadow"]},
    {"fractional": [{"var": "country"}, ["live", 1], ["off", 1]]},
)


class Readers:
    """Requests of some sessions from several countries, and what each of them reads in flags."""

    def __init__(self, first: int) -> None:
        # Small numbers and short texts are what hypothesis likes best, and what hashes tell it nothing about.
        self._contexts = [
            context_of(
                model="spam",
                request_id="r",
                session_id=f"session-{first + place}",
                attributes={"country": ("NO", "SE", "DE", "")[place % 4]},
            )
            for place in range(24)
        ]
        self._read: dict[tuple[str, int], list[Claim]] = {}

    def claims(self, version: Version, said: Flags) -> list[Claim]:
        """What each request reads in a version's flag; of a definition that it read before, what it read then."""
        definition = serving.flag_of(version, said)
        known = (version.name, id(definition))
        if known not in self._read:
            compiled = compile_flag(version.flag_key, definition)
            assert compiled is not None
            self._read[known] = [compiled.evaluate(context) for context in self._contexts]
        return self._read[known]

    def all_claims(self, said: Flags) -> list[list[tuple[str, Claim]]]:
        """What each request reads in all flags, in order of registration."""
        of_versions = [self.claims(version, said) for version in SPAM.versions]
        return [list(zip(NAMES, claims, strict=True)) for claims in zip(*of_versions, strict=True)]

    def served_by(self, said: Flags) -> list[str]:
        """Whom each request is answered by."""
        return [_live(claims) for claims in self.all_claims(said)]


def _live(claims: list[tuple[str, Claim]]) -> str:
    """Whom a request is answered by; nobody else may be it, and no last known live version is needed."""
    decision = routing.decide(claims, last_known_live=None, revision=1)
    assert decision is not None
    claiming = [name for name, claim in claims if claim is Claim.LIVE]
    assert claiming, "nobody claims to be live"
    assert decision.live == claiming[-1]
    assert decision.live not in {*decision.shadows, *decision.fallbacks}
    assert {*decision.shadows} >= {*claiming} - {decision.live}
    return decision.live


class History:
    """The flags of a model, changed by whoever may change them; what is refused changes nothing."""

    def __init__(self, store: MemoryControl) -> None:
        self.memory = store
        self.store = cast("ControlStore", store)
        self._before: list[Flags] = []

    async def start(self, names: Sequence[str], percent: float, ramp: tuple[float, ...], *, at_night: bool) -> None:
        schedule = Schedule(ramp=ramp, dwell=HALF_HOUR, windows=(NIGHT,) if at_night else ())
        share = ramp[-1] if ramp else percent
        terms = experiments.Terms(model="spam", candidates=tuple(names), percent=share, schedule=schedule)
        await experiments.start_experiment(self.store, terms, actor="ada")

    async def stop(self) -> None:
        await experiments.stop_experiment(self.store, model="spam", actor="ada", reason="")

    async def wait(self, seconds: float) -> None:
        self.memory.now += seconds
        await experiments.end_overdue(self.store, clock=lambda: self.memory.now)
        await steering.steer(self.store, clock=lambda: self.memory.now)

    async def set(self, name: str, claim: Claim, percent: float) -> None:
        share = 100.0 if claim is Claim.OFF else percent
        await flags.set_flag(self.store, model="spam", version=name, claim=claim, percent=share, actor="ada")

    async def write_rule(self, name: str, rule: Mapping[str, Any]) -> None:
        """As people edit flags: they may write any rule, but not leave a model without a version that stands."""
        (version,) = (each for each in SPAM.versions if each.name == name)
        definition = {**claim_definition("spam", Claim.OFF), "targeting": rule}
        said = {**self.memory.configuration.flags, version.flag_key: definition}
        if serving.standing(SPAM, said) is not None:
            await self._write({version.flag_key: definition})

    async def promote(self, name: str, percent: float) -> None:
        said = self.memory.configuration.flags
        version, previous = SPAM.version(name), serving.live_version(SPAM, said)
        assert version is not None
        assert previous is not None
        promotion.check_stage(SPAM, said, version, percent)
        running = next((each for each in self.memory.known if each.running), None)
        self._before.append(said)
        await self._go(
            lambda now: promotion.promotion_target(
                SPAM, now, version, percent=percent, previous=previous, experiment=running
            )
        )

    async def roll_back(self) -> None:
        if self._before:
            before = self._before.pop()
            previous = serving.live_version(SPAM, before)
            assert previous is not None
            await self._go(lambda now: promotion.rollback_target(SPAM, now, before=before, previous=previous.name))

    async def _go(self, target_of: Callable[[Flags], Flags]) -> None:
        for _ in range(8):
            said = self.memory.configuration.flags
            step = promotion.next_step(SPAM, said, target_of(said))
            if step is None:
                return
            await self._write(step.writes)
        raise AssertionError("it does not arrive")

    async def _write(self, writes: Flags) -> None:
        async with self.store.change("ada") as change:
            for key, definition in writes.items():
                await change.put_flag(key, definition, reason="for a test")


names = st.sampled_from(NAMES)
percents = st.sampled_from([0.125, 5.0, 25.0, 33.3, 50.0, 100.0, 100.0])
candidates = st.lists(st.sampled_from(NAMES[1:]), min_size=1, max_size=3, unique=True)
starts = st.tuples(
    st.just("start"), candidates, percents, st.sampled_from([(), (1.0, 5.0, 25.0), (10.0, 100.0)]), st.booleans()
)
promotions = st.tuples(st.just("promote"), names, percents)
waits = st.tuples(st.just("wait"), st.sampled_from([HALF_HOUR, 6 * 3_600.0, 12 * 3_600.0, 20 * 86_400.0]))
operations = st.one_of(
    starts,
    promotions,
    promotions,
    promotions,
    waits,
    st.tuples(st.just("stop")),
    st.tuples(st.just("set"), names, st.sampled_from(list(Claim)), percents),
    st.tuples(st.just("set"), names, st.just(Claim.SHADOW), percents),
    st.tuples(st.just("write_rule"), names, st.sampled_from(RULES)),
    st.tuples(st.just("roll_back")),
)
histories = st.lists(operations, min_size=8, max_size=8)
readers = st.builds(Readers, st.integers(0, 10**6))


async def _live_through(history: History, done: Sequence[tuple[Any, ...]]) -> None:
    for what, *arguments in done:
        revision, flags_before = history.memory.configuration.revision, history.memory.configuration.flags
        try:
            if what == "start":
                chosen, percent, ramp, at_night = arguments
                await history.start(chosen, percent, ramp, at_night=at_night)
            else:
                await getattr(history, what)(*arguments)
        except MultishadowError:
            assert (history.memory.configuration.revision, history.memory.configuration.flags) == (
                revision,
                flags_before,
            )


def lived_through(done: Sequence[tuple[Any, ...]]) -> History:
    """A history that begins with a base that is live."""
    first = {version.flag_key: claim_definition("spam", Claim.OFF) for version in SPAM.versions}
    first["spam.base"] = claim_definition("spam", Claim.LIVE)
    history = History(MemoryControl(SPAM, first))
    asyncio.run(_live_through(history, done))
    return history


def overtaken(reading: Readers, before: Flags, after: Flags) -> Iterator[list[str]]:
    """Whom each request finds when a revision comes while it reads, newest version first, at each possible moment."""
    former, latter = reading.all_claims(before), reading.all_claims(after)
    for unread in range(len(NAMES) + 1):
        # It reads the newest as they were, and the `unread` oldest as they are then.
        seen = ([*new[:unread], *old[unread:]] for old, new in zip(former, latter, strict=True))
        yield [_live(claims) for claims in seen]


@settings(max_examples=150)
@given(histories, readers)
def test_every_request_finds_exactly_one_live_version_at_every_revision(
    done: list[tuple[Any, ...]], reading: Readers
) -> None:
    revisions = lived_through(done).memory.history
    for said in revisions:
        assert serving.standing(SPAM, said) is not None
        assert {*reading.served_by(said)} <= {*serving.serving_versions(SPAM, said)}
    for before, after in itertools.pairwise(revisions):
        either = list(zip(reading.served_by(before), reading.served_by(after), strict=True))
        for found in overtaken(reading, before, after):
            assert all(live in allowed for live, allowed in zip(found, either, strict=True))


@settings(max_examples=150)
@given(histories, readers)
def test_samples_nest_at_every_revision(done: list[tuple[Any, ...]], reading: Readers) -> None:
    for said in lived_through(done).memory.history:
        sampled = [
            (share, {place for place, claim in enumerate(reading.claims(version, said)) if claim is Claim.SHADOW})
            for version in SPAM.versions
            if (share := _shadowed_share(serving.flag_of(version, said))) is not None
        ]
        for (_, smaller), (_, larger) in itertools.pairwise(sorted(sampled, key=lambda each: each[0])):
            assert smaller <= larger


def _shadowed_share(definition: Mapping[str, Any]) -> float | None:
    """The share of a flag that claims `shadow` for a plain share of the requests, all of them, or none."""
    words = describe(definition).split(" ")
    return copied_share(definition) if words[0] in {"off", "shadow"} else None


@settings(max_examples=150)
@given(
    st.lists(operations, max_size=4),
    names,
    st.lists(percents, min_size=2, max_size=4, unique=True).map(sorted),
    readers,
)
def test_stages_only_widen(done: list[tuple[Any, ...]], name: str, stages: list[float], reading: Readers) -> None:
    history, version = lived_through(done), SPAM.version(name)
    assert version is not None
    for percent in stages:
        before = history.memory.configuration.flags
        asyncio.run(_live_through(history, [("promote", name, percent)]))
        after = history.memory.configuration.flags
        had = _live_share(serving.flag_of(version, before))
        if before == after or had is None or had > percent:
            continue
        for earlier, later in zip(reading.claims(version, before), reading.claims(version, after), strict=True):
            assert later is Claim.LIVE or earlier is not Claim.LIVE
        for one_before, one_after in zip(reading.served_by(before), reading.served_by(after), strict=True):
            assert one_after == name or one_before != name


def _live_share(definition: Mapping[str, Any]) -> float | None:
    """The share in percent that a flag claims `live` for by the plain bucketing of stages; None for any other rule."""
    match describe(definition).split(" "):
        case ["live"]:
            return 100.0
        case ["live", share, *_]:
            return float(share)
        case ["off"] | ["shadow", *_]:
            return 0.0
        case _:
            return None
