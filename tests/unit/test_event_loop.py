"""Who runs on which event loop."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from multishadow_server.entrypoints import event_loop


@pytest.mark.parametrize("role", ["router", "worker"])
def test_who_only_calls_and_answers_runs_on_uvloop(role: str) -> None:
    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=event_loop.factory(role)) as runner:
        assert isinstance(runner.run(running()), uvloop.Loop)


@pytest.mark.parametrize("role", ["control", "serve", "demo"])
def test_the_others_run_on_pythons_own(role: str) -> None:
    assert event_loop.factory(role) is None
