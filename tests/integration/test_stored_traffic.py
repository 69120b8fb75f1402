"""Stored traffic: held to other terms, erased, and kept within bounds; on a real PostgreSQL, and measured in files."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fakes import KnownSeal
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.payload_rewriting import ProtobufPayloadRewriter
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.bounds import LOCK, PostgresBounds
from multishadow_server.adapters.postgres.hash_key import PostgresHashKey
from multishadow_server.adapters.postgres.traffic import PostgresTraffic
from multishadow_server.core.dead_letters import DeadLetter
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Model
from multishadow_server.core.privacy import Pattern, Payloads, PrivacyTerms
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.errors import FailedPrecondition
from multishadow_server.service.ports import KeptAnswers, Selection, StoredComparison
from store_fixtures import BUCKET, comparison, everything, flush, open_first_epoch, opened, rows, spam
from waiting import PATIENCE, until

SECRET = "alice@example.com"
REDACTING = PrivacyTerms(payloads=Payloads.REDACTED, paths=("input.name",), patterns=(Pattern.EMAIL,))
SIZE = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = '{}'::regclass"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(database_url) as engine:
        yield engine


@pytest.fixture
def traffic(engine: AsyncEngine) -> PostgresTraffic:
    return PostgresTraffic(engine, ProtobufPayloadRewriter(), hash_key=None)


def request_of(secret: str) -> bytes:
    message = prediction_pb2.PredictRequest(model="spam", session_id=secret)
    message.structured.update({"name": "Alice Liddell", "mail": secret, "kept": "as it is"})
    return message.SerializeToString()


def said(text: str) -> bytes:
    return prediction_pb2.PredictResponse(text=text).SerializeToString()


def a_sample(epoch: Epoch, secret: str = SECRET, **more: Any) -> StoredComparison:
    """A stored comparison whose every part holds the secret."""
    sample = comparison(
        epoch,
        request=request_of(secret),
        response=said(f"write to {secret}"),
        attributes={"mail": secret, "plan": "free"},
        session_id=secret,
        **more,
    )
    seen = replace(sample.observations[0], response=said(f"ask {secret}"), detail=f"no such user: {secret}")
    return replace(sample, observations=[seen])


def answers_of(sample: StoredComparison) -> KeptAnswers:
    return KeptAnswers(epoch_id=sample.epoch_id, capture=sample.capture, observations=sample.observations)


async def store(engine: AsyncEngine, epoch: Epoch, *samples: StoredComparison, **more: Any) -> None:
    await PostgresObservations(engine).commit(
        flush(epoch, previous=0, offset=1, comparisons=samples, answers=[answers_of(each) for each in samples], **more)
    )


def of(terms: PrivacyTerms, **more: Any) -> Model:
    return spam("base", "A", privacy=terms, **more)


async def put(engine: AsyncEngine, terms: PrivacyTerms) -> None:
    async with PostgresControl(engine).change("ada") as change:
        await change.put_model(replace(change.configuration.models["spam"], privacy=terms))


async def test_what_is_stored_already_is_redacted_when_it_is_asked_for(
    engine: AsyncEngine, database_url: str, traffic: PostgresTraffic
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    counted = {Cell(Family.SEGMENT, "A", f"attributes.mail={name}"): 2 for name in (SECRET, "bob@example.com")}
    await store(engine, epoch, a_sample(epoch), rollups={(epoch.id, BUCKET): Rollup(counted)})
    assert SECRET.encode() in everything(database_url)
    rewritten = await traffic.rewrite(of(REDACTING))
    assert (rewritten.examined, rewritten.rewritten, rewritten.levels_merged) == (2, 2, 2)
    left = everything(database_url)
    assert SECRET.encode() not in left
    assert b"Liddell" not in left
    assert b"as it is" in left
    assert b"write to [email]" in left
    # Counted together, under what stands for both.
    assert rows(database_url, "SELECT level, n FROM rollup") == [("attributes.mail=[email]", 4)]
    again = await traffic.rewrite(of(REDACTING))
    assert (again.examined, again.rewritten, again.levels_merged) == (2, 0, 0)


async def test_answers_that_nobody_can_redact_are_not_kept_to_be_labelled(
    engine: AsyncEngine, database_url: str, traffic: PostgresTraffic
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    unreadable = a_sample(epoch, request_id="unreadable")
    unreadable = replace(unreadable, capture=replace(unreadable.capture, response=b"no message"))
    await store(engine, epoch, a_sample(epoch, request_id="readable"), unreadable)
    assert (await traffic.rewrite(of(REDACTING))).deleted == 1
    assert rows(database_url, "SELECT request_id FROM answer") == [("readable",)]
    assert (await traffic.rewrite(of(REDACTING))).deleted == 0


@pytest.mark.parametrize("payloads", [Payloads.HASHED, Payloads.NONE])
async def test_what_is_stored_already_can_be_made_unreadable_and_stays_so(
    engine: AsyncEngine, database_url: str, traffic: PostgresTraffic, payloads: Payloads
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    await store(engine, epoch, a_sample(epoch), a_sample(epoch))
    rewritten = await traffic.rewrite(of(PrivacyTerms(payloads=payloads)))
    assert (rewritten.examined, rewritten.rewritten, rewritten.deleted) == (2, 2, 2)
    left = everything(database_url)
    assert [word for word in (SECRET, "Liddell", "as it is", "write to") if word.encode() in left] == []
    requests = {bytes(request) for (request,) in rows(database_url, "SELECT request FROM comparison")}
    assert len(requests) == 1
    assert (requests == {b""}) is (payloads is Payloads.NONE)
    # What is gone cannot be had back: looser terms leave it as it is.
    assert (await traffic.rewrite(of(REDACTING))).rewritten == 0


async def test_one_persons_requests_are_erased_and_their_space_given_back(
    engine: AsyncEngine, database_url: str, traffic: PostgresTraffic
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    noise = random.Random(1)
    now = datetime.now(UTC).timestamp()
    samples = [
        a_sample(epoch, f"{noise.randbytes(20_000).hex()}{n % 2}", request_id=f"r-{n}", received_at=now)
        for n in range(20)
    ]
    # Every second one is of the session, plain or as a hash.
    sealed = (await traffic.seal()).text("user-17")
    for place in range(0, 20, 2):
        own = replace(samples[place].capture, session_id=sealed if place % 4 else "user-17")
        samples[place] = replace(samples[place], capture=own)
    await store(engine, epoch, *samples)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO label (model, request_id, value, recorded_at, recorded_by) "
            "VALUES ('spam', 'r-2', '\"yes\"', now(), 'ada'), ('spam', 'r-3', '\"no\"', now(), 'ada')"
        )
    theirs = Selection(session_ids=("user-17", sealed))
    would = await traffic.count("spam", theirs)
    ((before,),) = rows(database_url, SIZE.format("comparison"))
    erased = await traffic.erase("spam", theirs)
    ((after,),) = rows(database_url, SIZE.format("comparison"))
    assert (erased.comparisons, erased.answers, erased.labels) == (10, 10, 1)
    assert (would.comparisons, would.answers, would.labels) == (10, 10, 1)
    assert rows(database_url, "SELECT request_id FROM label") == [("r-3",)]
    assert 10 * after < 7 * before
    assert erased.bytes_freed >= before - after


async def test_dead_letters_of_a_session_are_erased_although_nothing_else_is_stored_of_their_requests(
    engine: AsyncEngine, database_url: str, traffic: PostgresTraffic
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    capture = a_sample(epoch).capture
    letters = [
        DeadLetter(
            model="spam",
            version="A",
            outcome="timeout",
            capture=replace(capture, request_id=request_id, session_id=session_id),
        )
        for request_id, session_id in (("r-1", "user-17"), ("r-2", "user-18"), ("r-3", ""))
    ]
    await PostgresObservations(engine).commit(flush(epoch, previous=0, offset=1, dead_letters=letters))
    theirs = Selection(session_ids=("user-17",))
    assert (await traffic.count("spam", theirs)).dead_letters == 1
    assert (await traffic.erase("spam", theirs)).dead_letters == 1
    assert rows(database_url, "SELECT request_id FROM dead_letter ORDER BY 1") == [("r-2",), ("r-3",)]
    assert (await traffic.erase("spam", Selection(request_ids=("r-3",)))).dead_letters == 1


async def test_traffic_of_other_models_is_never_erased(
    engine: AsyncEngine, database_url: str, traffic: PostgresTraffic
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    await store(engine, epoch, a_sample(epoch))
    assert (await traffic.erase("ham", Selection())).comparisons == 0
    assert rows(database_url, "SELECT count(*) FROM comparison") == [(1,)]
    assert [(each.what, each.payloads, each.rows) for each in await traffic.stored("spam")] == [
        ("answers", "full", 1),
        ("comparisons", "full", 1),
    ]


async def test_what_is_older_than_its_model_allows_is_deleted_and_the_files_shrink(
    engine: AsyncEngine, database_url: str
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    noise = random.Random(2)
    now = datetime.now(UTC)
    days = [now - timedelta(days=3)] * 10 + [now] * 3
    samples = [a_sample(epoch, noise.randbytes(20_000).hex(), received_at=day.timestamp()) for day in days]
    await store(engine, epoch, *samples)
    await put(engine, PrivacyTerms(keep=2 * 86_400))
    ((before,),) = rows(database_url, SIZE.format("comparison"))
    bounds = PostgresBounds(engine, most_bytes=None)
    await bounds.enforce_terms()
    ((after,),) = rows(database_url, SIZE.format("comparison"))
    assert rows(database_url, "SELECT count(*) FROM comparison") == [(3,)]
    assert after < before / 2
    assert bounds.counters()["retention.rows_deleted"] == 20
    assert bounds.counters()["retention.bytes_freed"] > 0


async def test_a_models_newest_traffic_is_kept_up_to_so_many_bytes(engine: AsyncEngine, database_url: str) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    noise = random.Random(3)
    now = datetime.now(UTC).timestamp()
    samples = [
        a_sample(epoch, noise.randbytes(50_000).hex(), request_id=f"r-{n}", received_at=now - 60 * n) for n in range(30)
    ]
    await store(engine, epoch, *samples)
    await put(engine, PrivacyTerms(keep_bytes=4 << 20))
    await PostgresBounds(engine, most_bytes=None).enforce_terms()
    newest_first = rows(database_url, "SELECT request_id FROM comparison ORDER BY received_at DESC")
    kept = [int(name[2:]) for (name,) in newest_first]
    assert kept == list(range(len(kept)))
    payloads = "pg_column_size(request) + pg_column_size(response) + pg_column_size(shadow_responses)"
    ((size,),) = rows(database_url, f"SELECT sum({payloads}) FROM comparison")
    assert 1 << 20 < size <= 4 << 20


async def test_a_full_store_loses_its_oldest_days_and_then_the_oldest_of_today(
    engine: AsyncEngine, database_url: str
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    noise = random.Random(4)
    now = datetime.now(UTC)
    times = [(now - timedelta(days=n < 5, milliseconds=-n)).timestamp() for n in range(25)]
    samples = [
        a_sample(epoch, noise.randbytes(50_000).hex(), request_id=f"{n}", received_at=at) for n, at in enumerate(times)
    ]
    await store(engine, epoch, *samples)
    total = sum(int(rows(database_url, SIZE.format(parent))[0][0]) for parent in ("comparison", "answer"))
    bounds = PostgresBounds(engine, most_bytes=total // 2)
    await bounds.enforce_size()
    left = sum(int(rows(database_url, SIZE.format(parent))[0][0]) for parent in ("comparison", "answer"))
    assert left <= total // 2
    assert bounds.counters()["retention.days_dropped"] == 1
    assert bounds.counters()["retention.stored_bytes"] == left
    kept = [int(name) for (name,) in rows(database_url, "SELECT request_id FROM comparison ORDER BY received_at")]
    assert kept
    assert kept == list(range(25 - len(kept), 25))
    await bounds.enforce_size()
    assert len(rows(database_url, "SELECT FROM comparison")) == len(kept)


async def test_a_full_store_holds_up_nobody_while_its_oldest_day_is_read(
    engine: AsyncEngine, database_url: str
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    now = datetime.now(UTC).timestamp()
    await store(engine, epoch, a_sample(epoch, received_at=now - 86_400), a_sample(epoch, received_at=now))
    waiting = "SELECT FROM pg_locks WHERE relation = 'comparison'::regclass AND NOT granted"
    with psycopg.connect(database_url) as reader, psycopg.connect(database_url, autocommit=True) as other:
        reader.execute("SELECT count(*) FROM comparison")
        emptying = asyncio.create_task(PostgresBounds(engine, most_bytes=1).enforce_size())
        await until(lambda: other.execute(waiting).fetchone() is not None)
        other.execute("SET lock_timeout = '5s'")
        for _ in range(20):
            other.execute("SELECT count(*) FROM comparison")
        assert not emptying.done()
    await emptying
    assert rows(database_url, "SELECT count(*) FROM comparison") == [(0,)]


async def test_bounds_are_kept_from_the_start_of_a_role_to_its_end_and_again_after_postgresql_was_away(
    engine: AsyncEngine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    await store(engine, epoch, a_sample(epoch, received_at=datetime.now(UTC).timestamp() - 3 * 86_400))
    await put(engine, PrivacyTerms(keep=86_400))
    stop = asyncio.Event()
    async with opened("postgresql://ada@127.0.0.1:1/multishadow") as nowhere:
        bounds = [PostgresBounds(each, most_bytes=16 << 20) for each in (engine, nowhere)]
        keeping = [asyncio.create_task(each.run(stop)) for each in bounds]
        await until(lambda: rows(database_url, "SELECT count(*) FROM comparison") == [(0,)])
        await until(lambda: "stored traffic is kept within its bounds later" in caplog.text)
        assert not any(task.done() for task in keeping)
        stop.set()
        await asyncio.wait_for(asyncio.gather(*keeping), PATIENCE)


async def test_two_processes_do_not_delete_at_once(engine: AsyncEngine, database_url: str) -> None:
    epoch = await open_first_epoch(PostgresControl(engine))
    await store(engine, epoch, a_sample(epoch, received_at=datetime.now(UTC).timestamp() - 3 * 86_400))
    await put(engine, PrivacyTerms(keep=86_400))
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        await PostgresBounds(engine, most_bytes=None).enforce_terms()
        assert rows(database_url, "SELECT count(*) FROM comparison") == [(1,)]
    await PostgresBounds(engine, most_bytes=None).enforce_terms()
    assert rows(database_url, "SELECT count(*) FROM comparison") == [(0,)]


async def test_every_process_has_the_same_key_and_another_one_is_refused(engine: AsyncEngine) -> None:
    first = await PostgresHashKey(engine, given=None).seal()
    assert await PostgresHashKey(engine, given=None).seal() == first
    assert first != await KnownSeal().seal()
    with pytest.raises(FailedPrecondition, match="not the key that this deployment's hashes were made with"):
        await PostgresHashKey(engine, given="another key than that").seal()


async def test_a_key_that_is_a_setting_is_not_kept_in_the_database(database_url: str, engine: AsyncEngine) -> None:
    given = await PostgresHashKey(engine, given="a key of our own, kept elsewhere").seal()
    assert rows(database_url, "SELECT key FROM hash_key") == [(None,)]
    assert given.key not in everything(database_url)
    with pytest.raises(FailedPrecondition, match="give every worker and control the MULTISHADOW_HASH_KEY"):
        await PostgresHashKey(engine, given=None).seal()
