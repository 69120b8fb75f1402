"""A model's sessions, through the control API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

from multishadow.v1 import control_pb2 as pb
from running_control import Control, asked, control_address, refused
from store_fixtures import rows


@pytest.fixture
async def control(database_url: str) -> AsyncIterator[Control]:
    async with control_address(database_url) as address, asked(address) as client:
        yield client


async def sessions_of(control: Control) -> pb.SessionTerms | None:
    (model,) = (await control.stub.ListModels(pb.ListModelsRequest())).models
    return model.sessions if model.HasField("sessions") else None


async def test_sessions_are_set_shown_changed_and_ended_and_each_begins_an_epoch(
    control: Control, database_url: str
) -> None:
    await control.apply("base", "A")
    await control.start("A")
    assert await sessions_of(control) is None
    applied = await control.apply(sessions=pb.SessionTerms(idle_seconds=600, turn="chat.turn"))
    said = "sessions: none → end after 10 min, turns numbered by chat.turn from 1, waiting 1000 ms, ranked by session"
    assert list(applied.changes) == [said]
    expected = pb.SessionTerms(idle_seconds=600, turn="chat.turn", first=1, wait_ms=1000, unit="session")
    assert applied.model.sessions == expected
    assert await sessions_of(control) == expected
    assert (await control.compare()).unit == "session"

    again = await control.apply(sessions=pb.SessionTerms(idle_seconds=600, turn="chat.turn"))
    assert (again.revision, list(again.changes)) == (applied.revision, [])
    await control.apply(sessions=pb.SessionTerms(idle_seconds=600, turn="chat.turn", unit="request"))
    assert (await control.compare()).unit == "request"
    await control.apply(sessions=pb.SessionTerms(idle_seconds=0))
    assert await sessions_of(control) is None
    epochs = rows(database_url, "SELECT number, until_revision IS NULL FROM epoch ORDER BY number")
    assert epochs == [(1, False), (2, False), (3, True)], "the unit alone begins none"


async def test_terms_that_cannot_be_kept_are_refused_by_their_field(control: Control) -> None:
    async with refused(StatusCode.INVALID_ARGUMENT, "sessions.idle: 50000 s", "1 s to 12 h"):
        await control.apply("base", sessions=pb.SessionTerms(idle_seconds=50_000))
    async with refused(StatusCode.INVALID_ARGUMENT, "unit: allowed are request and session, not 'week'"):
        await control.apply("base", sessions=pb.SessionTerms(unit="week"))
    async with refused(StatusCode.INVALID_ARGUMENT, "sessions.first: 7"):
        await control.apply("base", sessions=pb.SessionTerms(first=7))
