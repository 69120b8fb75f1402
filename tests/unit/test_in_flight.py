"""Limits on what is under way: slots of a version, and captures of a process."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from multishadow_server.core.model import Version
from multishadow_server.service.in_flight import LONGEST_WAIT, CallSlots, UnderWay
from waiting import until


def version(*, max_in_flight: int = 2, seconds: float = 30.0) -> Version:
    return Version(model="spam", name="A", address="127.0.0.1:1", timeout=seconds, max_in_flight=max_in_flight)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_slots_are_given_first_come_first_served() -> None:
    slots, order = CallSlots(), []

    async def call(name: str) -> None:
        assert await slots.enter(version(max_in_flight=1))
        order.append(name)
        slots.leave(version(max_in_flight=1), answered=True)

    assert await slots.enter(version(max_in_flight=1))
    calls = [asyncio.create_task(call(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert order == []
    slots.leave(version(max_in_flight=1), answered=True)
    await asyncio.gather(*calls)
    assert order == ["a", "b", "c"]


async def test_nobody_waits_behind_a_version_that_has_answered_nothing_for_as_long_as_a_call_may_take() -> None:
    clock = Clock()
    slots, hung = CallSlots(clock=clock), version(max_in_flight=1)
    assert await slots.enter(hung)
    clock.now += hung.timeout
    assert not await slots.enter(hung)
    slots.leave(hung, answered=False)
    assert await slots.enter(hung), "its slot is free again, so somebody asks for it"
    clock.now += hung.timeout
    slots.leave(hung, answered=True)
    assert await slots.enter(hung)
    waiting = asyncio.create_task(slots.enter(hung))
    await asyncio.sleep(0)
    assert not waiting.done(), "it answers again, so it is waited for"
    slots.leave(hung, answered=True)
    assert await waiting


async def test_waiting_ends_by_itself_behind_a_hung_version() -> None:
    slots, hung = CallSlots(), version(max_in_flight=1, seconds=0.05)
    assert await slots.enter(hung)
    assert not await slots.enter(hung)


async def test_a_version_is_not_taken_for_hung_because_this_process_was_held_up() -> None:
    clock = Clock()
    slots, healthy = CallSlots(clock=clock), version(max_in_flight=1, seconds=0.01)
    assert await slots.enter(healthy)
    waiting = asyncio.create_task(slots.enter(healthy))
    await asyncio.sleep(0)
    # The process gets no time; meanwhile the version answers, but the wait in line comes first when it goes on.
    clock.now += 5.0
    done, _ = await asyncio.wait((waiting,), timeout=0.2)
    assert not done, "nobody knows yet whether the version answered in that time"
    slots.leave(healthy, answered=True)
    assert await waiting


async def test_even_a_version_that_answers_is_not_waited_for_without_end() -> None:
    clock = Clock()
    slots, slow = CallSlots(clock=clock), version(max_in_flight=1, seconds=0.01)
    assert await slots.enter(slow)
    waiting = asyncio.create_task(slots.enter(slow))
    await asyncio.sleep(0)
    clock.now += LONGEST_WAIT
    assert not await waiting


async def test_a_raised_limit_takes_effect_at_the_next_turn() -> None:
    slots = CallSlots()
    assert await slots.enter(version(max_in_flight=1))
    waiting = [asyncio.create_task(slots.enter(version(max_in_flight=1))) for _ in range(2)]
    await asyncio.sleep(0)
    slots.leave(version(max_in_flight=3), answered=True)
    assert await asyncio.gather(*waiting) == [True, True]


async def test_a_caller_that_gives_up_in_line_takes_no_slot_with_it() -> None:
    slots = CallSlots()
    assert await slots.enter(version(max_in_flight=1))
    gone, patient = (asyncio.create_task(slots.enter(version(max_in_flight=1))) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    slots.leave(version(max_in_flight=1), answered=True)
    assert await patient


async def test_a_slot_that_was_handed_to_somebody_who_gave_up_goes_to_the_next() -> None:
    slots = CallSlots()
    assert await slots.enter(version(max_in_flight=1))
    gone, patient = (asyncio.create_task(slots.enter(version(max_in_flight=1))) for _ in range(2))
    await asyncio.sleep(0)
    slots.leave(version(max_in_flight=1), answered=True)
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    assert await patient


@pytest.mark.parametrize(("captures", "size"), [(10, 0), (1, 1000)])
async def test_partitions_wait_for_room_in_captures_and_in_bytes(captures: int, size: int) -> None:
    under_way = UnderWay(captures=10, size=1000)
    await under_way.room()
    under_way.take(captures, size)
    waiting = asyncio.create_task(under_way.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    under_way.give_back(captures, size)
    await until(waiting.done)
    assert under_way.captures == 0


async def test_who_is_cancelled_in_line_takes_no_slot_with_them() -> None:
    slots, one = CallSlots(), version(max_in_flight=1)
    assert await slots.enter(one)
    gone, patient = (asyncio.create_task(slots.enter(one)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    slots.leave(one, answered=True)
    assert await patient
    with pytest.raises(asyncio.CancelledError):
        await gone
    slots.leave(one, answered=True)
    assert await slots.enter(one), "the slot was given back"
