"""What processes say of themselves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresControl, PostgresProcesses
from multishadow_server.service.ports import ProcessStatus
from store_fixtures import NOON, opened

ROUTER = ProcessStatus(
    role="router",
    instance="host-7",
    host="host",
    pid=7,
    started_at=NOON,
    revision=3,
    counters={"requests": 2**40},
    flag_source="FlagdProvider (STALE)",
    program="1.2.3",
)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(database_url) as engine:
        yield engine


async def test_the_last_report_of_a_process_is_the_one_that_counts(engine: AsyncEngine) -> None:
    registry, control = PostgresProcesses(engine), PostgresControl(engine)
    await registry.report(ROUTER)
    latest = replace(ROUTER, revision=4, counters={"requests": 2**40 + 1, "dropped.full": 1})
    await registry.report(latest)
    (read,) = await control.processes()
    assert read == replace(latest, seen_at=read.seen_at)
    assert read.seen_at == pytest.approx(time.time(), abs=60)


async def test_the_newest_report_comes_first(engine: AsyncEngine) -> None:
    registry, control = PostgresProcesses(engine), PostgresControl(engine)
    for instance in ("a", "b", "c", "a"):
        await registry.report(replace(ROUTER, instance=instance))
    assert [process.instance for process in await control.processes()] == ["a", "c", "b"]


async def test_roles_of_one_process_report_side_by_side_and_leave_together(engine: AsyncEngine) -> None:
    registry, control = PostgresProcesses(engine), PostgresControl(engine)
    for role in ("router", "worker", "control"):
        await registry.report(replace(ROUTER, role=role))
    await registry.report(replace(ROUTER, instance="host-8"))
    assert len(await control.processes()) == 4
    await registry.withdraw("host-7")
    assert [process.instance for process in await control.processes()] == ["host-8"]
    await registry.withdraw("host-7")
