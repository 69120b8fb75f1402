"""Open sessions in the store: they are committed with the offset, and read as they were written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.sessions import PostgresSessions
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.flags import claim_definition
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.routing import Claim
from multishadow_server.core.session_terms import SessionTerms
from multishadow_server.core.sessions import Cut, OpenSessions, SessionChanges, SessionKey, Turn
from multishadow_server.errors import FailedPrecondition, InvalidInput, LeaseLost, NotFound
from multishadow_server.service import comparison_report, sessions
from multishadow_server.service.ports import StoredComparison
from store_fixtures import NOON, capture, comparison, flush, open_first_epoch, opened, spam

TERMS = SessionTerms(idle=100.0, turn="turn")
# PostgreSQL's text knows no NUL, and JSON no lone surrogate; ids may hold the former.
KEYS = [SessionKey("spam", each) for each in ("user-17", "nul\x00id", "ключ", "'; DROP TABLE open_session; --")]


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


def turn(at: float, number: int | None = None) -> Turn:
    return Turn(received_at=NOON + at + 0.000001, number=number, letters="b")


async def test_sessions_are_read_as_they_were_committed_and_go_when_they_end(
    store: PostgresObservations, epoch: Epoch
) -> None:
    state = OpenSessions()
    for key in KEYS:
        state.add(key, turn(0, 1), epoch, TERMS)
        state.add(key, turn(1), epoch, TERMS)
    await store.commit(flush(epoch, previous=0, offset=1, sessions=state.changes()))
    found = await store.open_sessions("log-1", 0)
    assert {each.key: each for each in found.put} == state.open
    assert found.time == state.time

    state = OpenSessions(found.put, time=found.time)
    state.leave(KEYS[1], NOON + 2)
    state.add(KEYS[0], turn(3), replace(epoch, id=epoch.id), TERMS)
    await store.commit(flush(epoch, previous=1, offset=2, sessions=state.changes()))
    found = await store.open_sessions("log-1", 0)
    assert {each.key: each for each in found.put} == state.open
    assert set(state.open) == {KEYS[0], KEYS[2], KEYS[3]}
    assert found.time == state.time
    assert await store.open_sessions("log-1", 1) == SessionChanges(time=None, put=[])


async def test_what_is_known_to_be_cut_stays_known(store: PostgresObservations, epoch: Epoch) -> None:
    state = OpenSessions()
    state.add(KEYS[0], turn(0), epoch, TERMS)
    state.add(KEYS[0], turn(1), replace(epoch, id=epoch.id + 1), TERMS)
    await store.commit(flush(epoch, previous=0, offset=1, sessions=state.changes()))
    (found,) = (await store.open_sessions("log-1", 0)).put
    assert (found.cut, found.epoch_id) == (Cut.OTHER_EPOCH, epoch.id + 1)


async def test_a_commit_that_is_refused_leaves_the_sessions_alone(store: PostgresObservations, epoch: Epoch) -> None:
    state = OpenSessions()
    state.add(KEYS[0], turn(0), epoch, TERMS)
    await store.commit(flush(epoch, previous=0, offset=1, sessions=state.changes()))
    before = await store.open_sessions("log-1", 0)
    state.add(KEYS[0], turn(1), epoch, TERMS)
    with pytest.raises(LeaseLost):
        await store.commit(flush(epoch, previous=0, offset=2, sessions=state.changes()))
    assert await store.open_sessions("log-1", 0) == before


async def test_the_history_of_flags_is_read_from_the_last_change_before_a_time_on(
    store: PostgresObservations, control: PostgresControl
) -> None:
    async with control.change("ada") as change:
        await change.put_model(spam("base", "A"))
        await change.put_versions(spam("base", "A"))
    written = []
    for percent in (5, 25, 50):
        definition = claim_definition("spam", Claim.SHADOW, percent)
        async with control.change("ada") as change:
            await change.put_flag("spam.A", definition, reason="a step")
            await change.put_flag("elsewhere", definition, reason="another's")
            written.append((change.now, change.revision, definition))
    found = await store.flag_changes(["spam.A", "spam.base"], since=written[1][0] + 1e-3)
    assert sorted((each.at, each.revision, each.definition) for each in found)[-2:] == written[1:]
    assert {each.key for each in found} == {"spam.A"}
    assert len(await store.flag_changes(["spam.A"], since=0.0)) == 3


async def test_stored_sessions_are_listed_by_who_diverged_and_shown_in_the_callers_order(
    engine: AsyncEngine, store: PostgresObservations, control: PostgresControl, epoch: Epoch
) -> None:
    async with control.change("ada") as change:
        await change.put_model(spam("base", "A", sessions=TERMS))

    def stored(session: str, number: int, outcome: Outcome) -> StoredComparison:
        seen = [Observation(version="A", outcome=outcome, similarity=0.5, response=b"shadow")]
        kept = comparison(
            epoch,
            session_id=session,
            request_id=f"{session}/{number}",
            received_at=NOON - number,
            attributes={"turn": float(number)},
        )
        return replace(kept, observations=seen)

    kept = [stored("s", number, Outcome.DIVERGED if number == 2 else Outcome.OK) for number in (3, 1, 2)]
    kept += [stored("t", 1, Outcome.OK), stored("u", 1, Outcome.TIMEOUT), stored("", 1, Outcome.DIVERGED)]
    await store.commit(flush(epoch, previous=0, offset=1, comparisons=kept))
    records = PostgresSessions(engine)
    model, found = await sessions.list_sessions(control, records, model="", version="", experiment_id=0, most=0)
    assert model == "spam"
    listed = {each.session_id: (each.turns, each.bad_turns, dict(each.first_bad)) for each in found}
    assert listed == {"s": (3, 1, {"A": 2}), "u": (1, 1, {"A": 1})}
    assert [each.session_id for each in found] == ["u", "s"], "the newest first"

    shown = await sessions.get_session(control, records, model="spam", session_id="s", experiment_id=0)
    assert shown.numbered
    assert [(each.place, each.stored.request_id) for each in shown.turns] == [(1, "s/1"), (2, "s/2"), (3, "s/3")]
    assert shown.turns[0].stored.observations[0].response == b"shadow"
    assert shown.turns[0].stored.request == capture().request

    with pytest.raises(NotFound, match="nothing of a session 'unknown' is stored"):
        await sessions.get_session(control, records, model="spam", session_id="unknown", experiment_id=0)
    with pytest.raises(NotFound, match="does not compare 'B'"):
        await sessions.list_sessions(control, records, model="spam", version="B", experiment_id=0, most=0)
    with pytest.raises(InvalidInput, match="most: 1001"):
        await sessions.list_sessions(control, records, model="spam", version="", experiment_id=0, most=1001)
    with pytest.raises(InvalidInput, match="name a session"):
        await sessions.get_session(control, records, model="spam", session_id="", experiment_id=0)


async def test_a_model_without_sessions_cannot_be_ranked_by_them(control: PostgresControl, epoch: Epoch) -> None:
    assert (await comparison_report.compare(control, clock=lambda: NOON)).report.unit == "request"
    with pytest.raises(FailedPrecondition, match=r"spam has no sessions; put `sessions: \{idle: 30m\}`"):
        await comparison_report.compare(control, unit="session", clock=lambda: NOON)
    with pytest.raises(InvalidInput, match="unit: allowed are request and session"):
        await comparison_report.compare(control, unit="turn", clock=lambda: NOON)
    async with control.change("ada") as change:
        await change.put_model(spam("base", "A", sessions=TERMS))
    found = await comparison_report.compare(control, clock=lambda: NOON)
    assert (found.report.unit, found.report.state, found.epoch.id) == ("session", "no_data", epoch.id)
    assert found.report.advice.startswith("No whole session of A has ended yet")
