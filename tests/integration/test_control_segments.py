"""Kinds of request, asked of the real control on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.tally import Tally
from multishadow_server.service.ports import Flush
from running_control import Control, asked, control_address, refused
from sightings import LIVE_LATENCY, NOON, seen
from store_fixtures import opened

HOURS = 12


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as control:
        yield control


async def count(database_url: str, epoch: Epoch) -> None:
    """Commit half a day in which A fails callers from Norway, and B nobody."""
    tally = Tally()
    for hour in range(HOURS):
        for country, pattern, captures in (("NO", "bo", 9), ("NO", "oo", 21), ("DE", "eo", 1), ("DE", "oo", 69)):
            for _ in range(captures):
                tally.add_capture(
                    epoch,
                    received_at=NOON + 3600 * hour,
                    live_latency=LIVE_LATENCY,
                    observations=seen(("A", "B"), pattern),
                    segments=[f"hour (UTC)={hour:02d}", f"attributes.country={country}"],
                )
    async with opened(database_url) as engine:
        flush = Flush(log_id="log", partition=0, previous_offset=0, offset=1, rollups=tally.rollups())
        await PostgresObservations(engine).commit(flush)


async def test_a_candidates_segments_are_told_with_alerts_first(control: Control, database_url: str) -> None:
    await control.apply("base", "A", "B")
    await control.start("A", "B")
    async with opened(database_url) as engine:
        (epoch,) = (await PostgresControl(engine).read()).epochs
    await count(database_url, epoch)
    found = await control.stub.ListSegments(pb.ListSegmentsRequest(candidate="A"))
    assert (found.version, found.n, found.bad, found.live_version) == ("A", 100 * HOURS, 10 * HOURS, "base")
    assert (found.alpha, found.finished_buckets, found.epoch) == (0.05, HOURS - 1, 1)
    assert {(each.feature, each.level) for each in found.segments if each.alert} == {
        ("attributes.country", "NO"),
        ("attributes.country", "DE"),
    }
    germany = next(each for each in found.segments if each.level == "DE")
    assert (germany.n, germany.diverged, germany.failed) == (70 * HOURS, 0, HOURS)
    assert germany.rest_rate == pytest.approx(0.3)
    other = await control.stub.ListSegments(pb.ListSegmentsRequest(candidate="B"))
    assert (other.n, other.bad, any(each.alert for each in other.segments)) == (100 * HOURS, 0, False)


async def test_segments_of_nobody_or_at_an_impossible_level_are_refused(control: Control) -> None:
    await control.apply("base", "A", "B")
    await control.start("A", "B")
    async with refused(StatusCode.INVALID_ARGUMENT, "candidate: name one of A, B"):
        await control.stub.ListSegments(pb.ListSegmentsRequest())
    async with refused(StatusCode.NOT_FOUND, "does not compare 'C'; its candidates are A, B"):
        await control.stub.ListSegments(pb.ListSegmentsRequest(candidate="C"))
    async with refused(StatusCode.INVALID_ARGUMENT, "alpha"):
        await control.stub.ListSegments(pb.ListSegmentsRequest(candidate="A", alpha=2))
    empty = await control.stub.ListSegments(pb.ListSegmentsRequest(candidate="A"))
    assert (empty.n, list(empty.segments)) == (0, [])


async def test_a_model_names_the_attributes_that_it_is_cut_by_and_its_experiment_goes_on(
    control: Control, database_url: str
) -> None:
    await control.apply("base", "A")
    await control.start("A")

    async def cut_by(*attributes: str) -> list[str]:
        terms = pb.SegmentTerms(attributes=attributes)
        applied = await control.stub.ApplyModel(pb.ApplyModelRequest(model="spam", segments=terms))
        assert list(applied.model.segments.attributes) == list(attributes)
        return list(applied.changes)

    assert await cut_by("country", "user.plan") == ["segments: all attributes → country, user.plan"]
    assert await cut_by("country", "user.plan") == []
    async with opened(database_url) as engine:
        configuration = await PostgresControl(engine).read()
    assert configuration.models["spam"].segments == ("country", "user.plan")
    assert len(configuration.epochs) == 1
    assert await cut_by() == ["segments: country, user.plan → all attributes"]
    async with refused(StatusCode.INVALID_ARGUMENT, "segments: 21 attributes are too many; allowed are 20"):
        await cut_by(*(f"a{number}" for number in range(21)))
    async with refused(StatusCode.INVALID_ARGUMENT, "no attribute's name"):
        await cut_by("")
