"""The demonstration as the README starts it, without a terminal."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from browsing import visitor
from page_system import PageSystem
from page_walk import NOTHING_TO_DO, Walk, examine_on_a_phone
from running import Running, running

# Ninety seconds on two cores of its own is the promise; a machine that also runs other tests needs longer.
WITHIN_SECONDS = 170.0
STATIONS = (
    "✓ both routers follow",
    "✓ digits: every caller got an answer, and only ever base's",
    "✓ summary: every caller got an answer, and only ever base's",
    "✓ every copy to every candidate was counted exactly once",
    "✓ digits: the evidence is in, and A is the winner",
    "later A had answered on every connection",
    "later base had answered on every connection",
    "✓ callers noticed nothing meanwhile",
    "✓ in the same router processes all along",
    "Everything held",
)


@contextmanager
def folder_of_temporary_files() -> Iterator[Path]:
    """Not pytest's own, which is too deep for the path of a PostgreSQL's socket."""
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files."""
    with folder_of_temporary_files() as folder:
        yield folder


@pytest.fixture(scope="module")
def kept() -> Iterator[Running]:
    """A demo that goes on, until all who look at it are done; then nothing of it may be left."""
    with (
        folder_of_temporary_files() as folder,
        running("demo", "--seconds", "5", "--keep", environment={"TMPDIR": str(folder)}) as demo,
    ):
        demo.line_with("keeps running until Ctrl-C", within=WITHIN_SECONDS)
        demo.line_with("or in a browser")
        yield demo
        demo.process.send_signal(signal.SIGTERM)
        demo.ended()
        assert demo.left_nothing_running()


@pytest.mark.timeout(WITHIN_SECONDS + 60.0)
def test_the_demo_ranks_promotes_rolls_back_and_leaves_nothing(temporary: Path) -> None:
    # Fewer seconds of traffic than by default: the same stations, sooner.
    with running("demo", "--seconds", "15", environment={"TMPDIR": str(temporary)}) as demo:
        assert demo.ended(within=WITHIN_SECONDS) == 0, demo.output
        for station in STATIONS:
            assert station in demo.output
        assert demo.left_nothing_running()
    assert "✗" not in demo.output
    assert "\x1b" not in demo.output, "a log gets plain text"
    assert not list(temporary.glob("multishadow-demo-*"))


@pytest.mark.timeout(WITHIN_SECONDS + 60.0)
def test_an_interrupted_demo_cleans_up(temporary: Path) -> None:
    with running("demo", environment={"TMPDIR": str(temporary)}) as demo:
        demo.line_with("samples as traffic", within=WITHIN_SECONDS)
        demo.process.send_signal(signal.SIGINT)
        assert demo.ended() == 130, demo.output
        assert demo.left_nothing_running()
    assert "Traceback" not in demo.output, demo.output
    assert not list(temporary.glob("multishadow-demo-*"))


@pytest.mark.timeout(WITHIN_SECONDS + 60.0)
def test_a_kept_demo_can_be_used_by_hand_until_it_is_stopped(kept: Running) -> None:
    router = re.search(r"MULTISHADOW_ROUTER=(\S+)", kept.output)
    assert router is not None
    with running("traffic", "summary", "--router", router[1], "--rate", "20", "--seconds", "2") as traffic:
        assert traffic.ended() == 0
        assert re.search(r"base \d+, errors 0", traffic.output)


@pytest.mark.timeout(WITHIN_SECONDS + 120.0)
@pytest.mark.asyncio(loop_scope="session")
async def test_every_page_of_a_kept_demo_can_be_looked_at(kept: Running, browser: Browser) -> None:
    url = re.findall(r"in a browser: (http\S+)/ui/", kept.output)[-1]
    unfit: dict[str, list[str]] = {}
    system = PageSystem(url=url, database_url="", tokens={})
    async with visitor(browser, system, expected={NOTHING_TO_DO}) as anybody:
        walk = Walk(visitor=anybody)

        async def look(page: Page, path: str, _before: int) -> None:
            if found := await examine_on_a_phone(page):
                unfit[path] = found

        await walk.through(look)
    assert unfit == {}
    # Nothing of a demo is rolled out in stages, or fails; what it promotes, it rolls back itself.
    looked_at = {kind for kind in walk.kinds if "experiments" in kind or "comparisons" in kind}
    assert looked_at - {"/ui/experiments/{id:int}/rollback"} <= walk.kinds_seen()
