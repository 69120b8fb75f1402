"""What is cancelled ends, even when something on the way loses the cancellation."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import psycopg
import pytest

from multishadow_server.adapters.postgres.engine import open_engine, reaching
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service import ending
from waiting import until

URL = "postgresql://nobody@127.0.0.1:1/none"


async def _losing(times: int, lost: list[int]) -> None:
    """Work that goes on after so many cancellations."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if len(lost) == times:
                raise
            lost.append(1)


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_task_that_loses_a_cancellation_is_told_again(times: int) -> None:
    lost: list[int] = []
    task = asyncio.create_task(_losing(times, lost))
    await asyncio.sleep(0)
    await ending.end(task, None, patience=0.01)
    assert (task.cancelled(), len(lost)) == (True, times)


async def test_one_that_fails_while_it_is_ended_troubles_nobody() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken")

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await ending.end(task)
    assert task.done()


async def test_one_that_fails_after_whoever_ended_it_was_ended_troubles_nobody_either() -> None:
    failing, told = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            await failing.wait()
            raise ValueError("broken") from None

    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    ender = asyncio.create_task(ending.end(task, patience=60.0))
    await told.wait()
    await ending.end(ender)
    failing.set()
    await asyncio.wait({task})
    del task, ender
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def _broken_connection() -> Exception:
    return psycopg.OperationalError("sending query failed: another command is already in progress")


async def test_a_cancelled_operation_on_the_store_leaves_as_cancelled_whatever_its_driver_raises() -> None:
    assert await _outcome_of(_broken_connection, cancelled=True) is asyncio.CancelledError


async def test_an_operation_that_fails_by_itself_leaves_as_unavailable() -> None:
    assert await _outcome_of(_broken_connection, cancelled=False) is StoreUnavailable


async def _outcome_of(broken: Callable[[], Exception], *, cancelled: bool) -> type[BaseException]:
    """What leaves an operation whose connection breaks, while it is cancelled or of its own accord."""
    engine = open_engine(URL)
    begun, failing = asyncio.Event(), asyncio.Event()

    async def operation() -> None:
        async with reaching(engine, "testing"):
            begun.set()
            try:
                await failing.wait()
            finally:
                raise broken()

    task = asyncio.create_task(operation())
    await until(begun.is_set)
    if cancelled:
        task.cancel()
    else:
        failing.set()
    with pytest.raises((asyncio.CancelledError, StoreUnavailable)) as raised:
        await task
    await engine.dispose()
    return raised.type
