"""What workers commit: counts, samples and the offset, all or nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.errors import LeaseLost, NotFound
from store_fixtures import BUCKET, comparison, counts, flush, open_first_epoch, opened, rows

OK_CELL = Cell(Family.OUTCOME, "A", Outcome.OK)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(database_url) as engine:
        yield engine


@pytest.fixture
def control(engine: AsyncEngine) -> PostgresControl:
    return PostgresControl(engine)


@pytest.fixture
def store(engine: AsyncEngine) -> PostgresObservations:
    return PostgresObservations(engine)


@pytest.fixture
async def epoch(control: PostgresControl) -> Epoch:
    return await open_first_epoch(control)


# --- offsets ------------------------------------------------------------------------------------------------------


async def test_a_partition_begins_at_offset_zero(store: PostgresObservations) -> None:
    assert await store.offset("log-1", 0) == 0


async def test_the_offset_moves_with_the_counts(
    store: PostgresObservations, control: PostgresControl, epoch: Epoch
) -> None:
    await store.commit(flush(epoch, previous=0, offset=7, count=3))
    await store.commit(flush(epoch, previous=7, offset=9, count=4))
    assert await store.offset("log-1", 0) == 9
    assert (await control.rollup(epoch.id)).cells == {OK_CELL: 7}


@pytest.mark.parametrize(("previous", "offset"), [(0, 7), (0, 8), (3, 9), (9, 12)])
async def test_what_was_committed_before_is_not_counted_again(
    store: PostgresObservations, control: PostgresControl, epoch: Epoch, previous: int, offset: int
) -> None:
    await store.commit(flush(epoch, previous=0, offset=7))
    with pytest.raises(LeaseLost, match=f"partition 0 of the log log-1 is not at message {previous}"):
        await store.commit(flush(epoch, previous=previous, offset=offset, comparisons=[comparison(epoch)]))
    assert await store.offset("log-1", 0) == 7
    assert (await control.rollup(epoch.id)).cells == {OK_CELL: 1}


async def test_of_two_owners_that_commit_at_once_one_loses(
    store: PostgresObservations, control: PostgresControl, epoch: Epoch
) -> None:
    for previous in (0, 5):
        attempts = (store.commit(flush(epoch, previous=previous, offset=previous + 5)) for _ in range(4))
        ends = await asyncio.gather(*attempts, return_exceptions=True)
        assert sorted(map(type, ends), key=str) == sorted([type(None)] + [LeaseLost] * 3, key=str)
    assert (await control.rollup(epoch.id)).cells == {OK_CELL: 2}


async def test_a_log_that_was_made_again_begins_anew(store: PostgresObservations, epoch: Epoch) -> None:
    await store.commit(flush(epoch, previous=0, offset=7))
    await store.commit(replace(flush(epoch, previous=0, offset=2), log_id="log-2"))
    assert (await store.offset("log-1", 0), await store.offset("log-2", 0)) == (7, 2)


async def test_a_micro_batch_that_no_experiment_covers_moves_the_offset_alone(
    store: PostgresObservations, epoch: Epoch, database_url: str
) -> None:
    await store.commit(flush(epoch, previous=0, offset=4, rollups={}))
    assert await store.offset("log-1", 0) == 4
    assert rows(database_url, "SELECT count(*) FROM rollup") == [(0,)]


# --- counts -------------------------------------------------------------------------------------------------------


async def test_counts_add_up_over_buckets(
    store: PostgresObservations, control: PostgresControl, epoch: Epoch, database_url: str
) -> None:
    rollups = {(epoch.id, BUCKET + 3600 * hour): counts(10 + hour) for hour in range(3)}
    await store.commit(flush(epoch, previous=0, offset=1, rollups=rollups))
    assert (await control.rollup(epoch.id)).cells == {OK_CELL: 33}
    stored = rows(database_url, "SELECT extract(epoch FROM bucket_start)::bigint, n FROM rollup ORDER BY 1")
    assert stored == [(BUCKET, 10), (BUCKET + 3600, 11), (BUCKET + 7200, 12)]


async def test_sums_of_squares_grow_past_64_bits_exactly(
    store: PostgresObservations, control: PostgresControl, epoch: Epoch
) -> None:
    squares = Cell(Family.SIMILARITY_SUM, "A", "squares")
    delta = Cell(Family.CONFIDENCE_DELTA, "A", "sum")
    added = Rollup({squares: 2**90 + 1, delta: -(2**40), OK_CELL: 1})
    for step in range(3):
        await store.commit(flush(epoch, previous=step, offset=step + 1, rollups={(epoch.id, BUCKET): added}))
    assert (await control.rollup(epoch.id)).cells == {squares: 3 * (2**90 + 1), delta: -3 * 2**40, OK_CELL: 3}


async def test_an_epoch_without_counts_has_an_empty_rollup(control: PostgresControl, epoch: Epoch) -> None:
    assert (await control.rollup(epoch.id)).cells == {}


async def test_partitions_that_add_to_the_same_counts_at_once_neither_block_nor_lose(
    store: PostgresObservations, control: PostgresControl, epoch: Epoch
) -> None:
    cells = [Cell(Family.LATENCY, version, str(bin_)) for version in ("A", "B") for bin_ in range(100)]

    async def work(partition: int) -> None:
        for step in range(15):
            # Every partition meets the cells in an order of its own.
            mixed = random.Random(partition * 100 + step).sample(cells, len(cells))
            added = {(epoch.id, BUCKET): Rollup(dict.fromkeys(mixed, 1))}
            await store.commit(flush(epoch, partition=partition, previous=step, offset=step + 1, rollups=added))

    await asyncio.gather(*(work(partition) for partition in range(4)))
    assert (await control.rollup(epoch.id)).cells == dict.fromkeys(cells, 4 * 15)


async def test_counts_of_an_unknown_epoch_undo_the_whole_micro_batch(store: PostgresObservations, epoch: Epoch) -> None:
    with pytest.raises(NotFound, match="epoch"):
        await store.commit(flush(epoch, previous=0, offset=1, rollups={(epoch.id + 1, BUCKET): counts(1)}))
    assert await store.offset("log-1", 0) == 0


# --- samples ------------------------------------------------------------------------------------------------------


async def test_a_sample_is_stored_whole(store: PostgresObservations, epoch: Epoch, database_url: str) -> None:
    kept = comparison(epoch)
    await store.commit(flush(epoch, previous=0, offset=1, comparisons=[kept]))
    (row,) = rows(
        database_url,
        "SELECT request_id, session_id, method, revision, attributes, request, response, status_code, live_latency, "
        "kept_because, day::text, extract(epoch FROM received_at)::float, observations, shadow_responses "
        "FROM comparison",
    )
    wanted = kept.capture
    assert row[:4] == (wanted.request_id, wanted.session_id, wanted.method, wanted.revision)
    assert row[4:7] == (wanted.attributes, wanted.request, wanted.response)
    assert row[7:12] == (0, 0.0125, "diverged", "2026-11-23", wanted.received_at)
    (observation,), (response,) = row[12:]
    assert observation == {
        "version": "A",
        "first_latency": None,
        "outcome": "diverged",
        "reason": "",
        "detail": "",
        "similarity": 0.25,
        "latency": 0.02,
        "confidence_delta": None,
        "live_confidence": None,
    }
    assert response == b"\x00 shadow"


async def test_what_a_caller_sends_never_stops_a_partition(
    store: PostgresObservations, epoch: Epoch, database_url: str
) -> None:
    odd = {"nul\x00": ["\x00", {"deep": float("nan")}], "big": float("inf"), "text": "\\ \t \n é 漢 \U0001f600 \\N"}
    hostile = comparison(epoch, request_id="a\x00b\t\\N", session_id="\x00", status_message="\x00", attributes=odd)
    await store.commit(flush(epoch, previous=0, offset=1, comparisons=[hostile]))
    (row,) = rows(database_url, "SELECT request_id, session_id, status_message, attributes FROM comparison")
    assert row[:3] == ("a\ufffdb\t\\N", "\ufffd", "\ufffd")
    assert row[3] == {"nul\ufffd": ["\ufffd", {"deep": "nan"}], "big": "inf", "text": odd["text"]}


async def test_a_sample_of_a_day_that_nobody_prepared_is_kept(
    store: PostgresObservations, epoch: Epoch, database_url: str
) -> None:
    ancient = comparison(epoch, received_at=86_400.0 * 365)
    await store.commit(flush(epoch, previous=0, offset=1, comparisons=[ancient, comparison(epoch)]))
    assert rows(database_url, "SELECT day::text FROM comparison ORDER BY day") == [("1971-01-01",), ("2026-11-23",)]


async def test_many_samples_without_observations_or_answers_are_stored(
    store: PostgresObservations, epoch: Epoch, database_url: str
) -> None:
    bare = replace(comparison(epoch, response=b"", request=b""), observations=())
    failed = replace(bare, observations=[Observation(version="A", outcome=Outcome.TIMEOUT, similarity=0.0)] * 3)
    await store.commit(flush(epoch, previous=0, offset=1, comparisons=[bare] * 100 + [failed] * 100))
    shapes = "SELECT cardinality(shadow_responses), jsonb_array_length(observations), count(*) FROM comparison"
    assert rows(database_url, f"{shapes} GROUP BY 1, 2 ORDER BY 1") == [(0, 0, 100), (3, 3, 100)]
