"""Webhooks: told in the transaction of what happened, delivered at least once, whatever receivers do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow.v1 import webhooks_pb2 as pb
from multishadow.v1 import webhooks_pb2_grpc
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.webhooks import PostgresWebhooks
from multishadow_server.adapters.webhook_sender import HttpWebhookSender
from multishadow_server.core import webhooks as webhook_rules
from multishadow_server.core.alarms import AlarmKey, AlarmKind, Finding, Turn
from multishadow_server.core.observation import Outcome
from multishadow_server.core.rollup import Cell, Family, Rollup
from multishadow_server.core.watch_readings import Reading
from multishadow_server.core.webhooks import KEPT_RESPONSE_BYTES, DeliveryState, Event, EventType, Reply, Webhook
from multishadow_server.errors import Conflict, FailedPrecondition, InvalidInput, NotFound
from multishadow_server.service import experiments, promotion, webhooks
from multishadow_server.service.ports import DeliveryLine, Past, Span
from multishadow_server.service.proof_watch import ProofWatch
from multishadow_server.service.webhook_delivery import WebhookDeliveries
from running_control import Control, control_address
from store_fixtures import NOON, flush, opened, register, rows, spam
from waiting import until
from webhook_receiver import receiving

SENDERS_LIMIT = 0.5
"""Seconds that an attempt may take here."""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(database_url) as engine:
        yield engine


@asynccontextmanager
async def delivering(engine: AsyncEngine, **settings: Any) -> AsyncIterator[WebhookDeliveries]:
    """Control's part that sends."""
    sender = HttpWebhookSender(limit=SENDERS_LIMIT, of_each=4)
    quick: dict[str, Any] = {"draw": lambda: 0.5, "clock": lambda: NOON, "interval": 0.02}
    deliveries = WebhookDeliveries(PostgresWebhooks(engine), sender, **(quick | settings))
    stop = asyncio.Event()
    task = asyncio.create_task(deliveries.run(stop))
    try:
        yield deliveries
    finally:
        stop.set()
        await task
        await sender.aclose()


async def hook(engine: AsyncEngine, url: str, name: str = "ci", **more: Any) -> Webhook:
    fields: dict[str, Any] = {"events": (), "models": (), "actor": "ada", "clock": lambda: NOON}
    return await webhooks.create(
        PostgresControl(engine), PostgresWebhooks(engine), name=name, url=url, **(fields | more)
    )


def happened(number: int = 1, **more: Any) -> Event:
    values: dict[str, Any] = {
        "type": EventType.REPORT_STORED,
        "at": NOON,
        "model": "spam",
        "data": {"number": number},
    }
    return Event(**(values | more))


async def tell(engine: AsyncEngine, *events: Event) -> int:
    return await PostgresWebhooks(engine).enqueue(events)


async def lines(engine: AsyncEngine, state: DeliveryState | None = None) -> list[DeliveryLine]:
    return list(await PostgresWebhooks(engine).deliveries("", state=state, before=0, most=100))


async def test_what_is_told_arrives_signed_and_is_written_down(engine: AsyncEngine) -> None:
    async with receiving(answer=200, body=b"thanks") as receiver, delivering(engine) as deliveries:
        made = await hook(engine, receiver.url)
        assert await tell(engine, happened()) == 1
        await until(lambda: deliveries.counters()["webhooks.delivered"])
        (got,) = receiver.got
        assert got.path == "/hooks/s3cret-path"
        assert got.signed_by(made.secret)
        assert got.headers["webhook-timestamp"] == str(int(NOON))
        assert got.headers["content-type"] == "application/json"
        assert (got.document["type"], got.document["data"]) == ("report.stored", {"model": "spam", "number": 1})
        (line,) = await lines(engine)
        assert (line.state, line.attempts, line.status, line.response) == (DeliveryState.DELIVERED, 1, 200, "thanks")
        assert got.headers["webhook-id"] == line.message_id
        assert line.body.encode() == got.body


async def test_each_is_told_what_it_asked_for(engine: AsyncEngine) -> None:
    await register(PostgresControl(engine), spam("base"))
    await hook(engine, "http://127.0.0.1:1/", "all")
    await hook(engine, "http://127.0.0.1:1/", "alarms", events=[EventType.ALARM_RAISED])
    await hook(engine, "http://127.0.0.1:1/", "spam", models=["spam"])
    assert await tell(engine, happened(model="spam")) == 2
    assert await tell(engine, happened(model="mail")) == 1
    assert await tell(engine, happened(model="")) == 2, "what is of no model concerns all models"
    assert await tell(engine, happened(type=EventType.ALARM_RAISED, model="mail")) == 2


async def test_nothing_is_kept_where_nobody_wants_to_know(engine: AsyncEngine, database_url: str) -> None:
    assert await tell(engine, happened()) == 0
    assert rows(database_url, "SELECT * FROM webhook_message") == []


async def test_what_is_told_once_is_told_once_by_however_many(engine: AsyncEngine) -> None:
    await hook(engine, "http://127.0.0.1:1/")
    told = await asyncio.gather(*(tell(engine, happened(once="winner/1/A")) for _ in range(4)))
    assert sorted(told) == [0, 0, 0, 1]


async def test_a_receiver_that_refuses_is_tried_again_with_the_same_id(engine: AsyncEngine, database_url: str) -> None:
    async with receiving(answer=503, body=b"x" * 5_000) as receiver, delivering(engine) as deliveries:
        await hook(engine, receiver.url)
        await tell(engine, happened())
        await until(lambda: deliveries.counters()["webhooks.failed_attempts"])
        (line,) = await lines(engine, DeliveryState.WAITING)
        assert (line.status, len(line.response)) == (503, KEPT_RESPONSE_BYTES)
        wait = rows(database_url, "SELECT extract(epoch FROM next_attempt_at - changed_at) FROM webhook_delivery")
        assert float(wait[0][0]) == pytest.approx(10, abs=0.1)
        receiver.answer = 204
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE webhook_delivery SET next_attempt_at = now()")
        await until(lambda: deliveries.counters()["webhooks.delivered"])
        first, second = receiver.got
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert (await lines(engine))[0].attempts == 2


@pytest.mark.parametrize("how", ["hang", "die", "nobody"])
async def test_a_receiver_that_hangs_dies_or_is_not_there_holds_up_no_other(engine: AsyncEngine, how: str) -> None:
    async with receiving(answer=how) as bad, receiving() as good, delivering(engine) as deliveries:
        await hook(engine, "http://127.0.0.1:1/" if how == "nobody" else bad.url, "bad")
        await hook(engine, good.url, "good")
        await tell(engine, *(happened(number) for number in range(12)))
        await until(lambda: len(good.got) == 12)
        await until(lambda: deliveries.counters()["webhooks.failed_attempts"] == 12)
        assert {each.document["data"]["number"] for each in good.got} == set(range(12))
        waiting = [line for line in await lines(engine) if line.webhook == "bad"]
        assert {line.state for line in waiting} == {DeliveryState.WAITING}
        expected = {"hang": "no answer within 0.5 s", "die": "RemoteProtocolError: ", "nobody": "ConnectError: "}[how]
        assert all(line.detail.startswith(expected) and line.status is None for line in waiting)
        assert not any("s3cret" in line.detail for line in waiting)


async def test_a_redirect_is_not_followed(engine: AsyncEngine) -> None:
    async with receiving() as elsewhere, receiving(answer=307) as receiver, delivering(engine) as deliveries:
        receiver.extra = {"location": elsewhere.url}
        await hook(engine, receiver.url)
        await tell(engine, happened())
        await until(lambda: deliveries.counters()["webhooks.failed_attempts"])
        assert elsewhere.got == []
        assert "a redirect, which is not followed" in (await lines(engine))[0].detail


async def test_what_is_given_up_is_counted_seen_and_sent_again_when_asked_for(engine: AsyncEngine) -> None:
    store = PostgresWebhooks(engine)
    async with receiving(answer=410) as receiver, delivering(engine) as deliveries:
        await hook(engine, receiver.url)
        await tell(engine, happened())
        await until(lambda: deliveries.counters()["webhook_undelivered"])
        (line,) = await lines(engine, DeliveryState.PARKED)
        (standing,) = await store.webhooks()
        assert standing.counts == {DeliveryState.PARKED: 1}
        receiver.answer = 200
        assert await webhooks.retry(store, name="ci", ids=[line.id], actor="ada") == 1
        await until(lambda: deliveries.counters()["webhooks.delivered"])
        with pytest.raises(NotFound, match="none of these deliveries is parked"):
            await webhooks.retry(store, name="", ids=[line.id], actor="ada")


async def test_several_controls_share_the_work_and_send_nothing_twice(engine: AsyncEngine, database_url: str) -> None:
    async with opened(database_url) as other, receiving() as receiver:
        await hook(engine, receiver.url)
        await tell(engine, *(happened(number) for number in range(40)))
        async with delivering(engine) as one, delivering(other) as two:
            both = (one, two)
            await until(lambda: sum(each.counters()["webhooks.delivered"] for each in both) == 40)
            failed = sum(each.counters()["webhooks.failed_attempts"] for each in both)
        # An attempt that took too long on a busy machine is made again; nothing else comes twice.
        assert len({each.headers["webhook-id"] for each in receiver.got}) == 40
        assert 40 <= len(receiver.got) <= 40 + failed


async def test_what_a_control_took_and_never_settled_falls_due_again(engine: AsyncEngine, database_url: str) -> None:
    store = PostgresWebhooks(engine)
    async with receiving() as receiver:
        await hook(engine, receiver.url)
        await tell(engine, happened())
        (taken,) = await store.claim(busy=[], of_each=4, margin=30)
        assert await store.claim(busy=[], of_each=4, margin=30) == []
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE webhook_delivery SET next_attempt_at = now()")
        async with delivering(engine) as deliveries:
            await until(lambda: deliveries.counters()["webhooks.delivered"])
        fate = webhook_rules.fate(Reply(status=500), attempts=1, draw=0)
        assert not await store.settle(taken, Reply(status=500), fate), "it lost its claim"
        assert (await lines(engine))[0].state is DeliveryState.DELIVERED


async def test_control_goes_on_when_the_store_was_away(engine: AsyncEngine, database_url: str) -> None:
    async with receiving() as receiver, delivering(engine) as deliveries:
        await hook(engine, receiver.url)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await tell(engine, happened())
        await until(lambda: deliveries.counters()["webhooks.delivered"])


async def test_old_messages_go_with_their_deliveries(engine: AsyncEngine) -> None:
    store = PostgresWebhooks(engine)
    await hook(engine, "http://127.0.0.1:1/")
    await tell(engine, happened(at=NOON - 41 * 86_400), happened(2, at=NOON + 10 * 365 * 86_400))
    assert await store.forget(days=40) == 1
    assert [json.loads(line.body)["data"]["number"] for line in await lines(engine)] == [2]


async def test_promotions_rollbacks_and_ends_are_told_when_they_commit(engine: AsyncEngine) -> None:
    store = PostgresControl(engine)
    await register(store, spam("base", "A"))
    await hook(engine, "http://127.0.0.1:1/")
    terms = experiments.Terms(model="spam", candidates=("A",))
    await experiments.start_experiment(store, terms, actor="ada")
    await experiments.stop_experiment(store, model="spam", actor="ada", reason="enough")
    await promotion.promote(
        store, _Reachable(), model="spam", version="A", actor="ada", reason="better", force=True, clock=lambda: NOON
    )
    await promotion.rollback(store, model="spam", actor="bob", reason="worse")
    told = [json.loads(line.body) for line in reversed(await lines(engine))]
    assert [each["type"] for each in told] == ["experiment.ended", "version.promoted", "version.rolled_back"]
    ended, promoted, rolled_back = (each["data"] for each in told)
    assert (ended["candidates"], ended["reason"]) == (["A"], "enough")
    assert (promoted["version"], promoted["previous"], promoted["by"]) == ("A", "base", "ada")
    assert promoted["gates_passed_over"]
    assert (rolled_back["version"], rolled_back["live"], rolled_back["reason"]) == ("A", "base", "worse")


class _Reachable:
    """A VersionProbe that finds every server."""

    async def connect(self, address: str, *, within: float) -> None:
        del address, within


async def test_a_change_that_fails_tells_nobody(engine: AsyncEngine) -> None:
    store = PostgresControl(engine)
    await hook(engine, "http://127.0.0.1:1/")

    async def fail() -> None:
        async with store.change("ada") as change:
            await change.tell(happened())
            raise FailedPrecondition("it shall not be")

    with pytest.raises(FailedPrecondition):
        await fail()
    assert await lines(engine) == []


async def test_a_rollback_happens_although_nobody_can_be_told(
    engine: AsyncEngine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = PostgresControl(engine)
    await register(store, spam("base", "A"))
    await promotion.promote(
        store, _Reachable(), model="spam", version="A", actor="ada", reason="x", force=True, clock=lambda: NOON
    )
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE webhook")
        done = await promotion.rollback(store, model="spam", actor="ada")
        assert done.version == "base"
    assert "webhooks do not hear of version.rolled_back" in caplog.text


async def test_alarms_are_told_when_they_are_raised_and_cleared(engine: AsyncEngine) -> None:
    alarms = PostgresAlarms(engine)
    await hook(engine, "http://127.0.0.1:1/", events=[EventType.ALARM_RAISED, EventType.ALARM_CLEARED])
    finding = Finding(key=AlarmKey(AlarmKind.LAG, "", "worker-1"), detail="90 s behind")
    reading = Reading(at=NOON, oldest={}, cells={}, requests={}, routers={})
    span = Span(recent=1, window=1, apart=1)

    def clear(past: Past) -> Turn:
        return Turn(raised=(), found=(), cleared=tuple(past.standing))

    await alarms.turn(reading, span, lambda _: Turn(raised=(finding,), found=(), cleared=()))
    await alarms.turn(reading, span, clear)
    told = [json.loads(line.body) for line in reversed(await lines(engine))]
    assert [(each["type"], each["data"]["alarm"], each["data"]["subject"]) for each in told] == [
        ("alarm.raised", "lag", "worker-1"),
        ("alarm.cleared", "lag", "worker-1"),
    ]


async def test_a_proven_winner_and_a_failed_gate_are_told_once_in_an_epoch(engine: AsyncEngine) -> None:
    store = PostgresControl(engine)
    await register(store, spam("base", "A", "B"))
    terms = experiments.Terms(model="spam", candidates=("A", "B"))
    await experiments.start_experiment(store, terms, actor="ada")
    (epoch,) = (await store.read()).epochs
    watch = ProofWatch(store, PostgresWebhooks(engine), clock=lambda: NOON)
    await PostgresObservations(engine).commit(flush(epoch, previous=0, offset=1, rollups=_proof(epoch.id)))
    assert await watch.look() == 0, "nobody wants to know"
    await hook(engine, "http://127.0.0.1:1/", events=[EventType.WINNER_PROVEN, EventType.GATE_FAILED])
    assert await watch.look() > 0
    assert await watch.look() == 0, "it was told"
    told = [json.loads(line.body) for line in await lines(engine)]
    (winner,) = (each["data"] for each in told if each["type"] == "winner.proven")
    assert (winner["version"], winner["live"], winner["epoch"]) == ("A", "base", 1)
    failed = {(each["data"]["version"], each["data"]["gate"]) for each in told if each["type"] == "gate.failed"}
    assert ("B", "divergence") in failed
    assert ("A", "divergence") not in failed


def _proof(epoch_id: int) -> dict[tuple[int, int], Rollup]:
    """Ten thousand requests on which B was bad in three thousand cases, and A in ten."""
    cells = {
        Cell(Family.OUTCOME, "A", Outcome.OK): 9_990,
        Cell(Family.OUTCOME, "A", Outcome.DIVERGED): 10,
        Cell(Family.OUTCOME, "B", Outcome.OK): 7_000,
        Cell(Family.OUTCOME, "B", Outcome.DIVERGED): 3_000,
        Cell(Family.PAIR, "A|B", "oo"): 6_990,
        Cell(Family.PAIR, "A|B", "ob"): 3_000,
        Cell(Family.PAIR, "A|B", "bo"): 10,
    }
    return {(epoch_id, int(NOON)): Rollup(cells)}


async def test_receivers_are_named_once_few_and_of_models_that_there_are(engine: AsyncEngine) -> None:
    store = PostgresWebhooks(engine)
    await hook(engine, "http://127.0.0.1:1/")
    with pytest.raises(Conflict, match="there is a webhook ci already"):
        await hook(engine, "http://127.0.0.1:1/")
    with pytest.raises(NotFound, match="there is no model 'mail'"):
        await hook(engine, "http://127.0.0.1:1/", "other", models=["mail"])
    with pytest.raises(NotFound, match="there is no webhook 'cd'; there is ci"):
        await webhooks.rotate(store, "cd", grace=0, actor="ada")
    with pytest.raises(InvalidInput, match="grace: "):
        await webhooks.rotate(store, "ci", grace=8 * 86_400, actor="ada")
    with pytest.raises(InvalidInput, match="state: 'lost' is none"):
        await webhooks.deliveries(store, name="", state="lost", before=0, size=0)


async def test_deliveries_page_by_id(engine: AsyncEngine) -> None:
    await hook(engine, "http://127.0.0.1:1/")
    await tell(engine, *(happened(number) for number in range(5)))
    store, seen, before = PostgresWebhooks(engine), [], 0
    for _ in range(3):
        page, before = await webhooks.deliveries(store, name="ci", state="waiting", before=before, size=2)
        seen += [json.loads(line.body)["data"]["number"] for line in page]
    assert (seen, before) == ([4, 3, 2, 1, 0], 0)


async def test_webhooks_over_the_api(database_url: str) -> None:
    async with (
        receiving() as receiver,
        control_address(database_url) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub: Any = webhooks_pb2_grpc.WebhookServiceStub(channel)
        await Control(channel).apply("base", "A")
        made = await stub.CreateWebhook(
            pb.CreateWebhookRequest(name="ci", url=receiver.url, events=["version.promoted"], actor="ada")
        )
        assert made.secret.startswith("whsec_")
        assert made.webhook.origin == f"http://127.0.0.1:{receiver.port}"
        tested = await stub.TestWebhook(pb.TestWebhookRequest(name="ci", actor="ada"))
        assert (tested.delivered, tested.status) == (True, 204)
        rotated = await stub.RotateWebhookSecret(
            pb.RotateWebhookSecretRequest(name="ci", grace_seconds=60, actor="ada")
        )
        await Control(channel).promote("A")
        await until(lambda: len(receiver.got) == 2)
        test, promoted = receiver.got
        assert test.document["type"] == "webhook.test"
        assert test.signed_by(made.secret)
        assert promoted.document["type"] == "version.promoted"
        assert promoted.signed_by(made.secret)
        assert promoted.signed_by(rotated.secret)
        await until(lambda: _delivered(stub))
        listed = await stub.ListWebhooks(pb.ListWebhooksRequest())
        shown = [str(listed), str(await stub.GetWebhook(pb.GetWebhookRequest(name="ci")))]
        assert not any(word in text for text in shown for word in ("s3cret-path", made.secret, rotated.secret))
        assert (await stub.DeleteWebhook(pb.DeleteWebhookRequest(name="ci", actor="ada"))).waited == 0
        assert not (await stub.ListDeliveries(pb.ListDeliveriesRequest())).deliveries
    found = rows(database_url, "SELECT action, detail::text FROM audit_log WHERE action LIKE '%webhook%' ORDER BY id")
    assert [action for action, _ in found] == ["create_webhook", "rotate_webhook", "delete_webhook"]
    assert not any("s3cret" in detail or "whsec" in detail for _, detail in found)


async def _delivered(stub: Any) -> bool:
    found = await stub.ListDeliveries(pb.ListDeliveriesRequest(webhook="ci", state="delivered"))
    return len(found.deliveries) == 1
