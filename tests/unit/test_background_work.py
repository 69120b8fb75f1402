"""What a process does on the side never ends it, whatever goes wrong with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest

from multishadow_server.adapters.postgres import PostgresRetention
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service import housekeeping
from multishadow_server.service.housekeeping import Housekeeping
from multishadow_server.service.ports import ProcessStatus
from multishadow_server.service.process_report import ProcessReport
from waiting import until

STATUS = ProcessStatus(role="router", instance="r", host="h", pid=1, started_at=0.0, revision=1, counters={})
UNTHOUGHT_OF = RuntimeError("of a kind that nobody thought of")


class Registry:
    """Fails in the ways that it is given, then works."""

    def __init__(self, *errors: Exception) -> None:
        self._errors: Iterator[Exception] = iter(errors)
        self.reports = 0
        self.tried = 0

    async def report(self, status: ProcessStatus) -> None:
        self.tried += 1
        for error in self._errors:
            raise error
        self.reports += 1

    async def withdraw(self, instance: str) -> None:
        raise UNTHOUGHT_OF


@pytest.mark.parametrize("error", [StoreUnavailable("away"), UNTHOUGHT_OF])
async def test_a_process_that_cannot_report_itself_goes_on_and_says_so_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    registry, stop = Registry(error, error), asyncio.Event()
    task = asyncio.create_task(ProcessReport(registry, status=lambda: STATUS, interval=0.001).run(stop))
    await until(lambda: registry.reports > 0)
    stop.set()
    await task
    assert registry.tried == registry.reports + 2
    assert [record.message.partition(":")[0] for record in caplog.records] == ["this process cannot report itself"]


async def test_control_goes_on_when_a_round_of_housekeeping_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Store:
        def __init__(self) -> None:
            self.asked = 0

        async def experiments(self, *, running: bool) -> list[Any]:
            assert running
            self.asked += 1
            raise UNTHOUGHT_OF

    store, stop = Store(), asyncio.Event()
    monkeypatch.setattr(housekeeping, "INTERVAL", 0.001)
    rounds = Housekeeping(cast("Any", store), cast("Any", None), cast("Any", None), clock=lambda: 0.0)
    task = asyncio.create_task(rounds.run(stop))
    await until(lambda: store.asked > 1)
    stop.set()
    await task
    assert rounds.counters()["housekeeping.failed_rounds"] == store.asked
    assert {record.message for record in caplog.records} == {"a round of housekeeping failed"}


async def test_control_goes_on_when_days_cannot_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    class Refused(PostgresRetention):
        async def enforce(self) -> None:
            stop.set()
            raise UNTHOUGHT_OF

    stop, engine = asyncio.Event(), open_engine("postgresql://nobody@127.0.0.1:1/none")
    await Refused(engine, keep_days=1).run(stop)
    await engine.dispose()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
