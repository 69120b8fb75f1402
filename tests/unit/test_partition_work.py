"""One partition's work, with faults that strike at chosen moments: nothing is lost and nothing counts twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from test_shadowing import AGREES, CAPTURE, a_configuration, an_epoch

from fakes import (
    EqualBytes,
    Fault,
    KnownConfiguration,
    KnownSeal,
    MemoryObservations,
    MemoryPartition,
    NoRewriting,
    ScriptedGateway,
)
from multishadow_server.core.capture import CaptureBatch
from multishadow_server.core.comparison.verdict import Comparison
from multishadow_server.core.keeping import Keeper
from multishadow_server.core.model import Comparator
from multishadow_server.core.rollup import Cell
from multishadow_server.core.segments import KnownLevels
from multishadow_server.errors import FailedPrecondition, LeaseLost, LogUnavailable
from multishadow_server.service import ending
from multishadow_server.service.concealing import Concealing
from multishadow_server.service.configuration_in_hand import ConfigurationInHand
from multishadow_server.service.in_flight import CallSlots, UnderWay
from multishadow_server.service.partition_work import Pace, PartitionWork, Workshop
from multishadow_server.service.ports import LoggedBatch
from multishadow_server.service.shadowing import Shadowing
from waiting import until


def message(sequence: int, *, captures: int = 1, revision: int = 5) -> LoggedBatch:
    made = [
        replace(CAPTURE, request_id=f"{sequence}-{number}", shadows=("A",), revision=revision)
        for number in range(captures)
    ]
    return LoggedBatch(sequence=sequence, batch=CaptureBatch(router="r", captures=made))


class Scene:
    """A partition with its log, its store and everything that works on it."""

    def __init__(self, *messages: LoggedBatch, linger: float = 0.01, batch_captures: int = 10) -> None:
        self.log = MemoryPartition(messages)
        self.store = MemoryObservations()
        self.source = KnownConfiguration(a_configuration(an_epoch("A")))
        self.gateway = ScriptedGateway(lambda _: AGREES)
        self.workshop = Workshop(
            readers=self.log,
            store=self.store,
            shadowing=Shadowing(gateway=self.gateway, comparer=EqualBytes(), slots=CallSlots()),
            configuration=ConfigurationInHand(self.source, check_interval=60.0),
            under_way=UnderWay(captures=100, size=1_000_000),
            counters=Counter(),
            pace=Pace(batch_captures=batch_captures, linger=linger),
            draw=lambda: 0.0,
            levels=KnownLevels(),
            concealing=Concealing(KnownSeal(), NoRewriting(), Counter()),
        )

    def work(self) -> PartitionWork:
        return PartitionWork(0, self.workshop, Keeper(divergent_per_hour=100, sample_per_hour=100))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.work().run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    def done(self) -> bool:
        return not self.log.left


async def test_what_was_committed_but_not_acknowledged_is_skipped_when_it_comes_again() -> None:
    scene = Scene(message(3), message(5), message(9))
    scene.store.offsets["memory", 0] = 5
    async with scene.working():
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 1
    assert len(scene.gateway.calls) == 1
    assert scene.store.offsets["memory", 0] == 9


async def test_a_commit_whose_answer_was_lost_is_not_made_again() -> None:
    scene = Scene(message(1), message(2))
    scene.store.faults.append(Fault.LOST_AFTER)
    async with scene.working():
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 2


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
async def test_an_input_counts_once_whatever_becomes_of_commits_and_whoever_owns_the_partition(fault: Fault) -> None:
    def alike(*sequences: int) -> list[LoggedBatch]:
        batches = [message(sequence, captures=3).batch for sequence in sequences]
        captures = [[replace(item, fingerprint=b"alike") for item in batch.captures] for batch in batches]
        return [
            LoggedBatch(sequence=sequence, batch=CaptureBatch(router="r", captures=made))
            for sequence, made in zip(sequences, captures, strict=True)
        ]

    scene = Scene(*alike(1, 2))
    scene.store.faults.append(fault)
    async with scene.working():
        await until(scene.done)
    later = Scene(*alike(3))
    later.store = scene.store
    later.workshop = replace(later.workshop, store=scene.store)
    async with later.working():
        await until(later.done)
    assert (scene.store.outcome("A", "ok"), scene.store.outcome("A", "duplicate")) == (1, 8)
    assert (len(scene.gateway.calls), len(later.gateway.calls)) == (1, 0)


async def test_a_commit_that_never_arrived_is_made_again() -> None:
    scene = Scene(message(1), message(2))
    scene.store.faults.extend([Fault.LOST_BEFORE, Fault.LOST_BEFORE])
    async with scene.working():
        scene.store.away = 0
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 2


async def test_while_the_store_is_away_an_unknown_outcome_waits_for_it() -> None:
    scene = Scene(message(1))
    scene.store.faults.append(Fault.LOST_AFTER)
    async with scene.working():
        await until(lambda: scene.store.commits == 1)
        scene.store.away = 2
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 1


async def test_somebody_elses_commit_ends_the_work_and_drops_what_was_under_way() -> None:
    scene = Scene(message(1))
    task = asyncio.create_task(scene.work().run(asyncio.Event()))
    await until(scene.done)
    scene.store.offsets["memory", 0] = 7
    scene.log.append(message(8))
    with pytest.raises(LeaseLost):
        await task
    assert scene.store.outcome("A", "ok") == 1
    assert list(scene.log.left) == [8], "it is not acknowledged, so its new owner gets it"
    assert scene.workshop.under_way.captures == 0


async def test_an_unknown_outcome_with_an_offset_that_nobody_here_made_means_the_lease_is_lost() -> None:
    scene = Scene(message(4))
    scene.store.faults.append(Fault.LOST_BEFORE)
    scene.store.offsets["memory", 0] = 0
    task = asyncio.create_task(scene.work().run(asyncio.Event()))
    await until(lambda: not scene.store.faults)
    scene.store.offsets["memory", 0] = 6
    with pytest.raises(LeaseLost):
        await task
    assert scene.store.outcome("A", "ok") == 0


async def test_a_lost_log_ends_the_work_after_what_is_under_way_is_committed() -> None:
    scene = Scene(message(1), linger=0.05)
    task = asyncio.create_task(scene.work().run(asyncio.Event()))
    await until(lambda: scene.gateway.calls)
    scene.log.lost = True
    with pytest.raises(LogUnavailable):
        await task
    assert scene.store.offsets["memory", 0] == 1
    async with scene.working():
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 1


async def test_samples_that_cannot_be_stored_do_not_keep_the_counts_from_being_committed() -> None:
    scene = Scene(message(1))
    scene.store.faults.append(Fault.SAMPLES_REFUSED)
    async with scene.working():
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 1
    assert scene.workshop.counters["comparisons_refused"] == 1
    assert not scene.store.comparisons


async def test_messages_are_committed_together_up_to_a_full_micro_batch() -> None:
    scene = Scene(*(message(sequence, captures=4) for sequence in range(1, 11)), linger=30.0, batch_captures=8)
    async with scene.working():
        await until(lambda: scene.store.offsets.get(("memory", 0)) == 10)
    assert scene.store.outcome("A", "ok") == 40
    assert scene.store.commits <= 7, "the first at once, then two messages at a time"


async def test_a_micro_batch_that_is_not_full_is_committed_after_the_linger() -> None:
    scene = Scene(message(1), linger=0.1)
    async with scene.working():
        await until(scene.done)
        scene.log.append(message(2))
        await until(scene.done, within=20.0)


async def test_a_capture_waits_for_the_configuration_that_it_was_decided_by() -> None:
    scene = Scene(message(1, revision=5))
    async with scene.working():
        await until(scene.done)
        scene.source.configuration = a_configuration(
            an_epoch("A", until=20), an_epoch("A", number=2, first=20), revision=20
        )
        scene.source.away = 2
        scene.log.append(message(2, revision=20))
        await until(scene.done)
    counted = {epoch: rollup.cells[Cell("outcome", "A", "ok")] for epoch, rollup in scene.store.rollup.items()}
    assert counted == {1: 1, 2: 1}


async def test_cancelled_work_gives_its_room_back_and_leaves_its_messages() -> None:
    scene = Scene(message(1), message(2))
    scene.gateway.open.clear()
    task = asyncio.create_task(scene.work().run(asyncio.Event()))
    await until(lambda: scene.workshop.under_way.captures == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scene.workshop.under_way.captures == 0
    assert sorted(scene.log.left) == [1, 2]


async def test_work_that_is_told_twice_to_end_gives_its_room_back_all_the_same() -> None:
    told, let_go = asyncio.Event(), asyncio.Event()

    class Lingering(EqualBytes):
        async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
            try:
                await asyncio.Event().wait()
            finally:
                told.set()
                await let_go.wait()
            raise AssertionError("it is never set")

    scene = Scene(message(1), message(2))
    shadowing = Shadowing(gateway=scene.gateway, comparer=Lingering(), slots=CallSlots())
    scene.workshop = replace(scene.workshop, shadowing=shadowing)
    task = asyncio.create_task(scene.work().run(asyncio.Event()))
    await until(lambda: scene.workshop.under_way.captures == 2 and len(scene.gateway.calls) == 2)
    task.cancel()
    await until(told.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scene.workshop.under_way.captures == 0
    let_go.set()


async def test_nothing_is_left_behind_by_work_whose_tasks_lose_a_cancellation() -> None:
    lost: list[str] = []

    class Deaf(EqualBytes):
        async def compare(self, comparator: Comparator, live: bytes, shadow: bytes) -> Comparison:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append("once")
            await asyncio.Event().wait()
            raise AssertionError("it is never set")

    scene = Scene(message(1))
    shadowing = Shadowing(gateway=scene.gateway, comparer=Deaf(), slots=CallSlots())
    scene.workshop = replace(scene.workshop, shadowing=shadowing)
    others = asyncio.all_tasks()
    task = asyncio.create_task(scene.work().run(asyncio.Event()))
    await until(lambda: len(scene.gateway.calls) == 1)
    await ending.end(task)
    assert lost == ["once"]
    assert asyncio.all_tasks() == others


async def test_a_full_process_reads_no_further_until_there_is_room() -> None:
    scene = Scene(*(message(sequence, captures=60) for sequence in range(1, 6)))
    scene.gateway.open.clear()
    async with scene.working():
        await until(lambda: scene.workshop.under_way.captures == 120)
        assert scene.store.commits == 0
        scene.gateway.open.set()
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 300


async def test_a_log_that_was_put_back_to_an_older_state_is_refused() -> None:
    scene = Scene(message(3), message(5))
    scene.store.offsets["memory", 0] = 6
    with pytest.raises(FailedPrecondition, match="ends at message 5, and 6 is counted already"):
        await scene.work().run(asyncio.Event())
    assert len(scene.log.left) == 2
    scene.store.offsets["memory", 0] = 5
    async with scene.working():
        await until(scene.done)
    assert scene.store.outcome("A", "ok") == 0
