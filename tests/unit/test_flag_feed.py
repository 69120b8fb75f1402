"""The feed of flags: revisions in, waiting readers out."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from typing import Any

import pytest

from multishadow_server.adapters.flagd_flags import FlagdFlags
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.flag_sets import EVERY_FLAG, Selector
from multishadow_server.errors import EvaluationFailed, Unavailable
from multishadow_server.service.flag_feed import FlagFeed

ON = {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}


class Age:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def age() -> Age:
    return Age()


@pytest.fixture
def feed(age: Age) -> FlagFeed[FlagdFlags]:
    return FlagFeed(FlagdFlags, age=age, stale_after=10.0)


def at(revision: int, **flags: Any) -> Configuration:
    return Configuration(revision=revision, flags=flags)


async def test_everybody_who_waits_gets_the_newest(feed: FlagFeed[FlagdFlags]) -> None:
    feed.load(at(1, a=ON))
    first = await feed.first()
    waiting = [asyncio.create_task(feed.newer(first, within=10.0)) for _ in range(3)]
    await asyncio.sleep(0)
    feed.load(at(2, a=ON))
    feed.load(at(3, a=ON))
    assert [flags and flags.revision for flags in await asyncio.gather(*waiting)] == [3, 3, 3]


def test_readers_who_ask_for_sets_that_are_none_do_not_fill_the_memory() -> None:
    flags = FlagdFlags(at(1, a=ON, b={**ON, "metadata": {"flagSetId": "web"}}))

    def held(*sets: str) -> int:
        tracemalloc.start()
        try:
            for name in sets:
                flags.payload(Selector(flag_set=name))
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert held(*(f"no-such-set-{n}" for n in range(20_000))) < 1_000_000
    # Of those that there are, a payload is made once, however many read it.
    assert flags.payload(Selector(flag_set="web")) is flags.payload(Selector(flag_set="web"))


async def test_who_was_busy_meanwhile_does_not_wait(feed: FlagFeed[FlagdFlags]) -> None:
    feed.load(at(1, a=ON))
    first = await feed.first()
    feed.load(at(2, a=ON))
    newer = await feed.newer(first, within=0.0)
    assert newer is not None
    assert newer.revision == 2
    assert await feed.newer(newer, within=0.01) is None


async def test_before_the_first_reading_there_is_no_set_to_be_told_of(feed: FlagFeed[FlagdFlags]) -> None:
    with pytest.raises(Unavailable, match="not read yet"):
        feed.evaluate("a", {}, selector=EVERY_FLAG)
    opening = asyncio.create_task(feed.first())
    await asyncio.sleep(0)
    feed.load(at(1, a=ON))
    assert (await opening).revision == 1


async def test_closing_ends_every_wait(feed: FlagFeed[FlagdFlags]) -> None:
    feed.load(at(1, a=ON))
    first = await feed.first()
    waiting = asyncio.create_task(feed.newer(first, within=60.0))
    await asyncio.sleep(0)
    assert feed.counters()["flags.streams"] == 1
    feed.close()
    with pytest.raises(Unavailable, match="stopping"):
        await waiting
    with pytest.raises(Unavailable, match="stopping"):
        await feed.first()
    assert feed.counters()["flags.streams"] == 0


async def test_a_revision_is_waited_for_and_no_longer_than_asked(feed: FlagFeed[FlagdFlags]) -> None:
    feed.load(at(1, a=ON))
    reaching = asyncio.create_task(feed.reach(3, within=60.0))
    await asyncio.sleep(0)
    feed.load(at(2, a=ON))
    await asyncio.sleep(0)
    assert not reaching.done()
    feed.load(at(3, a=ON))
    await reaching
    await feed.reach(4, within=0.01)


async def test_flags_that_may_be_out_of_date_say_so(feed: FlagFeed[FlagdFlags], age: Age) -> None:
    feed.load(at(1, a=ON))
    assert feed.evaluate("a", {}, selector=EVERY_FLAG).metadata == {"flagSetId": "multishadow", "version": "1"}
    age.seconds = 11.0
    assert feed.evaluate("a", {}, selector=EVERY_FLAG).metadata["stale"] is True


async def test_a_malformed_flag_is_left_out_counted_and_logged_once(
    feed: FlagFeed[FlagdFlags], caplog: pytest.LogCaptureFixture
) -> None:
    malformed = {**ON, "defaultVariant": "off"}
    with caplog.at_level(logging.WARNING):
        feed.load(at(1, a=ON, b=malformed))
        feed.load(at(2, a=ON, b=malformed))
    assert [record.getMessage() for record in caplog.records] == [
        'flag b is not handed on: its defaultVariant "off" is none of its variants'
    ]
    assert feed.counters()["flags.left_out"] == 1
    assert set(feed.flags.definitions) == {"a"}
    with pytest.raises(EvaluationFailed, match='flag "b" is malformed'):
        feed.evaluate("b", {}, selector=EVERY_FLAG)
    feed.load(at(3, a=ON, b=ON))
    assert feed.counters()["flags.left_out"] == 0


async def test_definitions_that_did_not_change_are_kept_as_they_are(feed: FlagFeed[FlagdFlags]) -> None:
    feed.load(at(1, a=dict(ON), b=dict(ON)))
    before = feed.flags.definitions
    feed.load(at(2, a=dict(ON), b={**ON, "variants": {"on": 1}}))
    assert feed.flags.definitions["a"] is before["a"]
    assert feed.flags.definitions["b"] is not before["b"]


@pytest.mark.parametrize("definition", [None, 7, "on", [], {}, {"state": "ENABLED", "variants": [True]}])
async def test_what_is_no_definition_at_all_is_left_out(feed: FlagFeed[FlagdFlags], definition: Any) -> None:
    feed.load(at(1, a=ON, b=definition))
    assert set(feed.flags.left_out) == {"b"}
    assert feed.evaluate("a", {}, selector=EVERY_FLAG).value is True
