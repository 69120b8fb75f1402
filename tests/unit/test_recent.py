"""Results that are reused for a moment."""

from __future__ import annotations

import asyncio

import pytest

from multishadow_server.service import recent
from multishadow_server.service.recent import Recent


class Maker:
    """Makes numbers, counting up; each takes so many seconds of a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cost = 0.1
        self.made = 0
        self.fails = False
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    def clock(self) -> float:
        return self.now

    async def make(self) -> int:
        self.made += 1
        number = self.made
        await self.may_go_on.wait()
        self.now += self.cost
        if self.fails:
            raise LookupError("away")
        return number


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def kept(maker: Maker) -> Recent:
    return Recent(monotonic=maker.clock)


async def test_a_result_is_reused_for_some_times_what_it_cost(maker: Maker, kept: Recent) -> None:
    assert await kept.get("report", maker.make) == 1
    maker.now += recent.TIMES_COST * maker.cost - 0.01
    assert await kept.get("report", maker.make) == 1
    assert await kept.get("another", maker.make) == 2


async def test_an_old_result_stands_in_while_a_new_one_is_made(maker: Maker, kept: Recent) -> None:
    await kept.get("report", maker.make)
    maker.now += recent.TIMES_COST * maker.cost + 0.01
    assert await kept.get("report", maker.make) == 1
    await asyncio.sleep(0)
    assert await kept.get("report", maker.make) == 2
    assert maker.made == 2


async def test_a_result_that_is_too_old_to_stand_in_is_waited_for(maker: Maker, kept: Recent) -> None:
    await kept.get("report", maker.make)
    maker.now += recent.STANDS_IN_SECONDS + 1
    assert await kept.get("report", maker.make) == 2


async def test_whoever_decides_by_a_result_waits_for_a_new_one_sooner(maker: Maker, kept: Recent) -> None:
    assert await kept.get("report", maker.make) == 1
    maker.now += 34
    assert await kept.get("report", maker.make, oldest=35.0) == 1, "a new one is on its way"
    maker.now += 36
    assert await kept.get("report", maker.make, oldest=35.0) == 2
    maker.now += 36
    assert await kept.get("report", maker.make, oldest=35.0) == 3


async def test_nothing_is_made_twice_at_once_and_who_leaves_takes_it_from_nobody(maker: Maker, kept: Recent) -> None:
    maker.may_go_on.clear()
    first, second = (asyncio.create_task(kept.get("report", maker.make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    maker.may_go_on.set()
    assert await second == 1
    assert maker.made == 1


async def test_a_failure_reaches_who_waits_and_is_kept_by_nobody(maker: Maker, kept: Recent) -> None:
    maker.fails = True
    with pytest.raises(LookupError, match="away"):
        await kept.get("report", maker.make)
    maker.fails = False
    assert await kept.get("report", maker.make) == 2


async def test_after_a_change_everything_is_made_anew(maker: Maker, kept: Recent) -> None:
    await kept.get("report", maker.make)
    maker.may_go_on.clear()
    late = asyncio.create_task(kept.get("late", maker.make))
    await asyncio.sleep(0)
    kept.forget()
    maker.may_go_on.set()
    # It may have read what was there before the change, so who comes after it gets another.
    assert await late == 2
    assert await kept.get("late", maker.make) == 3
    assert await kept.get("report", maker.make) == 4


async def test_so_many_are_kept_and_no_more(maker: Maker, kept: Recent) -> None:
    for number in range(recent.MOST_KEPT + 1):
        await kept.get(number, maker.make)
    made = maker.made
    maker.cost = 0.0
    await kept.get(recent.MOST_KEPT, maker.make)
    assert maker.made == made
    await kept.get(0, maker.make)
    assert maker.made == made + 1


async def test_closing_ends_what_is_being_made(maker: Maker, kept: Recent) -> None:
    maker.may_go_on.clear()
    waiting = asyncio.create_task(kept.get("report", maker.make))
    await asyncio.sleep(0)
    await kept.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
