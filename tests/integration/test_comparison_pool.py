"""Comparisons in real child processes, which are really killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.core.comparison import Verdict
from multishadow_server.core.model import Comparator
from multishadow_server.service.ports import Comparer
from waiting import PATIENCE, until, until_sync

COMPARATOR = Comparator()


@pytest.fixture
async def pool() -> AsyncIterator[ComparisonPool]:
    pool = ComparisonPool(processes=1, time_limit=60.0)
    yield pool
    await pool.aclose()
    assert children() == set()


def children() -> set[int]:
    """Living children of this process that compare."""
    pids = [pid for task in Path("/proc/self/task").iterdir() for pid in contents(task / "children").split()]
    return {int(pid) for pid in pids if b"comparison_process" in contents(Path(f"/proc/{pid.decode()}/cmdline"))}


def contents(path: Path) -> bytes:
    """What stands in a file of /proc; nothing when its thread or process ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    status = contents(Path(f"/proc/{pid}/status"))
    return bool(status) and b"\nState:\tZ" not in status


def busy(pid: int) -> bool:
    """Whether it computes, rather than waits for a request."""
    return b"\nState:\tR" in contents(Path(f"/proc/{pid}/status"))


def text(content: str) -> bytes:
    return prediction_pb2.PredictResponse(text=content).SerializeToString()


def long_text(*, seed: int, words: int) -> bytes:
    return text(" ".join(f"w{(number * 7919 + seed * number % 97) % 1009}" for number in range(words)))


HEAVY = text("the cats sat on a mat " * 1_000), text("the cat sits on a mat " * 999)
ENDLESS = long_text(seed=1, words=200_000), long_text(seed=2, words=200_000)


def as_port(pool: ComparisonPool) -> Comparer:
    """The type checker holds the pool to its port here."""
    return pool


async def test_light_answers_are_compared_without_another_process(pool: ComparisonPool) -> None:
    result = await as_port(pool).compare(COMPARATOR, text("one two three"), text("one two three"))

    assert (result.verdict, result.similarity) == (Verdict.AGREE, 1.0)
    assert children() == set()


async def test_heavy_answers_are_compared_in_one_other_process_that_is_kept(pool: ComparisonPool) -> None:
    first = await pool.compare(COMPARATOR, *HEAVY)
    used = children()
    second = await pool.compare(COMPARATOR, *HEAVY)

    assert first == second
    assert first.verdict is Verdict.DIVERGE
    assert len(used) == 1
    assert children() == used


async def test_the_comparator_travels_with_the_answers(pool: ComparisonPool) -> None:
    result = await pool.compare(Comparator(threshold=0.5), *HEAVY)

    assert result.verdict is Verdict.AGREE


async def test_heavy_comparisons_never_hold_up_the_event_loop(pool: ComparisonPool) -> None:
    comparing = asyncio.create_task(pool.compare(COMPARATOR, *ENDLESS))
    turns = 0
    while not comparing.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns > 100


async def test_no_more_processes_run_than_allowed() -> None:
    pool = ComparisonPool(processes=2, time_limit=60.0)

    results = await asyncio.gather(*(pool.compare(COMPARATOR, *HEAVY) for _ in range(8)))

    assert {result.verdict for result in results} == {Verdict.DIVERGE}
    assert len(children()) == 2
    await pool.aclose()
    assert children() == set()


async def test_a_child_killed_between_comparisons_is_replaced(pool: ComparisonPool) -> None:
    expected = await pool.compare(COMPARATOR, *HEAVY)
    (killed,) = children()
    os.kill(killed, signal.SIGKILL)
    await until(lambda: not alive(killed))

    assert await pool.compare(COMPARATOR, *HEAVY) == expected
    assert killed not in children()


async def test_a_child_killed_while_it_compares_is_replaced_and_the_comparison_repeated(pool: ComparisonPool) -> None:
    await pool.compare(COMPARATOR, *HEAVY)
    (killed,) = children()
    comparing = asyncio.create_task(pool.compare(COMPARATOR, *ENDLESS))
    await until(lambda: busy(killed))
    os.kill(killed, signal.SIGKILL)

    result = await comparing

    assert result.reason != "comparison_failed"
    assert killed not in children()


async def test_a_comparison_that_kills_its_process_twice_is_uncomparable() -> None:
    pool = ComparisonPool(processes=1, time_limit=60.0)
    comparing = asyncio.create_task(pool.compare(COMPARATOR, *ENDLESS))
    for _ in range(2):
        await until(lambda: any(busy(pid) for pid in children()))
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: not alive(pid))  # type: ignore[misc]  # mypy infers no types for lambda defaults

    result = await comparing

    assert (result.verdict, result.reason) == (Verdict.UNCOMPARABLE, "comparison_failed")
    await pool.aclose()


async def test_an_overdue_comparison_is_uncomparable_and_its_process_ends() -> None:
    pool = ComparisonPool(processes=1, time_limit=0.001)

    result = await pool.compare(COMPARATOR, *ENDLESS)

    assert (result.verdict, result.reason) == (Verdict.UNCOMPARABLE, "comparison_timeout")
    assert children() == set()
    await pool.aclose()


async def test_a_cancelled_comparison_leaves_no_answer_behind_for_the_next(pool: ComparisonPool) -> None:
    expected = await pool.compare(COMPARATOR, *HEAVY)
    (pid,) = children()
    comparing = asyncio.create_task(pool.compare(COMPARATOR, *ENDLESS))
    await until(lambda: busy(pid))
    comparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await comparing

    assert await pool.compare(COMPARATOR, *HEAVY) == expected


async def test_closing_ends_a_comparison_under_way() -> None:
    pool = ComparisonPool(processes=1, time_limit=60.0)
    await pool.compare(COMPARATOR, *HEAVY)
    (pid,) = children()
    comparing = [asyncio.create_task(pool.compare(COMPARATOR, *ENDLESS)) for _ in range(2)]
    await until(lambda: busy(pid))

    await pool.aclose()

    assert {(await result).reason for result in comparing} == {"comparison_failed"}
    assert children() == set()


async def test_hostile_bytes_are_uncomparable_however_many(pool: ComparisonPool) -> None:
    few, many = b"\xff" * 10, b"\xff" * 1_000_000

    assert (await pool.compare(COMPARATOR, few, text("x"))).reason == "live_unreadable"
    assert (await pool.compare(COMPARATOR, text("x"), many)).reason == "shadow_unreadable"
    assert (await pool.compare(COMPARATOR, many, many)).reason == "live_unreadable"


async def test_a_comparison_that_raises_is_uncomparable(pool: ComparisonPool) -> None:
    broken = Comparator(threshold="high")  # type: ignore[arg-type]  # a comparator that no one should have stored

    light = await pool.compare(broken, text("one two"), text("one three"))
    heavy = await pool.compare(broken, *HEAVY)

    assert {light.reason, heavy.reason} == {"comparison_failed"}
    assert "TypeError" in light.detail


async def test_ctrl_c_does_not_end_a_child(pool: ComparisonPool) -> None:
    expected = await pool.compare(COMPARATOR, *HEAVY)
    before = children()
    for pid in before:
        os.kill(pid, signal.SIGINT)

    assert await pool.compare(COMPARATOR, *HEAVY) == expected
    assert children() == before


def test_a_child_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio, pathlib, sys
            from multishadow.v1 import prediction_pb2
            from multishadow_server.adapters.comparison_pool import ComparisonPool
            from multishadow_server.core.model import Comparator

            async def main() -> None:
                heavy = prediction_pb2.PredictResponse(text="word " * 20_000).SerializeToString()
                await ComparisonPool().compare(Comparator(), heavy, heavy)
                print(*pathlib.Path("/proc/self/task").glob("*/children"), flush=True)
                await asyncio.Event().wait()

            asyncio.run(main())
        """)
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        tasks = [Path(path.replace("/self/", f"/{parent.pid}/")) for path in parent.stdout.readline().split()]
        pids = [int(pid) for task in tasks for pid in task.read_text().split()]
        parent.kill()

    assert len(pids) == 1
    until_sync(lambda: not alive(pids[0]))


def test_a_child_does_not_load_grpc() -> None:
    source = "import sys, multishadow_server.adapters.comparison_process as p; sys.exit('grpc' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", source], check=False, timeout=PATIENCE).returncode == 0
