"""Stored answers: found by filter, sorted, paged by key, and exported with today's redaction, on a real PostgreSQL."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import grpc.aio
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from multishadow.v1 import export_pb2 as pb
from multishadow.v1 import export_pb2_grpc, prediction_pb2
from multishadow_server.adapters.payload_rewriting import ProtobufPayloadRewriter
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.exports import REACHES, PostgresAnswers
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.postgres.traffic import PostgresTraffic
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Model
from multishadow_server.core.observation import Observation, Outcome
from multishadow_server.core.privacy import CustomPattern, Pattern, Payloads, PrivacyTerms
from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.errors import InvalidInput, NotFound
from multishadow_server.service import exporting, reviewing
from multishadow_server.service.exporting import Exported, Exports
from multishadow_server.service.ports import AnswerFilter, AnswerOrder, AnswerPlace, StoredComparison
from running_control import control_address
from store_fixtures import COMPARATOR, NOON, capture, flush, opened, register, rows, spam

DAY = 86_400.0


@dataclass(kw_only=True)
class Shelf:
    """Comparisons of A and B with base, and whoever takes them out."""

    engine: AsyncEngine
    epoch: Epoch
    stored: list[StoredComparison] = field(default_factory=list)
    offset: int = 0
    reaches: tuple[int, ...] = REACHES

    @property
    def control(self) -> PostgresControl:
        return PostgresControl(self.engine)

    def exports(self, **bounds: int) -> Exports:
        rewriter = ProtobufPayloadRewriter()
        return Exports(
            store=self.control,
            answers=PostgresAnswers(self.engine, reaches=self.reaches, **bounds),
            seals=PostgresTraffic(self.engine, rewriter, hash_key="k" * 16),
            rewriter=rewriter,
        )

    def keep(self, request_id: str, *seen: Observation, why: str = "diverged", **more: Any) -> None:
        kept = capture(request_id=request_id, **more)
        self.stored.append(StoredComparison(epoch_id=self.epoch.id, capture=kept, observations=seen, kept_because=why))

    async def commit(self) -> None:
        batch = flush(self.epoch, previous=self.offset, offset=self.offset + 1, comparisons=self.stored)
        await PostgresObservations(self.engine).commit(batch)
        self.stored, self.offset = [], self.offset + 1

    async def listed(
        self, order: AnswerOrder = AnswerOrder.NEWEST, *, size: int = 100, **which: Any
    ) -> Sequence[Exported]:
        """Walk all pages."""
        exports = self.exports()
        subject = await exports.subject(model="spam", experiment_id=0)
        found: list[Exported] = []
        cursor = ""
        while True:
            wanted = AnswerFilter(epochs=tuple(subject.epochs), **which)
            page, cursor = await exports.listed(subject, wanted, order, cursor=cursor, size=size)
            found += page
            assert len(page) <= size
            if not cursor:
                return found

    async def names(self, order: AnswerOrder = AnswerOrder.NEWEST, *, size: int = 100, **which: Any) -> list[str]:
        found = await self.listed(order, size=size, **which)
        return [f"{each.answer.request_id}/{each.answer.seen.version}" for each in found]

    async def exported(self, *, cursor: str = "", bounds: dict[str, int] | None = None, **which: Any) -> list[Exported]:
        exports = self.exports(**(bounds or {}))
        subject = await exports.subject(model="", experiment_id=0)
        wanted = AnswerFilter(epochs=tuple(subject.epochs), **which)
        return [each async for each in exports.export(subject, wanted, cursor=cursor)]

    async def hold_to(self, terms: PrivacyTerms) -> None:
        async with self.control.change("ada") as change:
            model: Model = change.configuration.models["spam"]
            await change.put_model(replace(model, privacy=terms))


def diverged(version: str, similarity: float, latency: float = 0.02, **more: Any) -> Observation:
    values: dict[str, Any] = {"response": b"other", "similarity": similarity, "latency": latency}
    return Observation(version=version, outcome=Outcome.DIVERGED, **(values | more))


def agreed(version: str) -> Observation:
    return Observation(version=version, outcome=Outcome.OK, similarity=1.0, latency=0.01, response=b"same")


def failed(version: str) -> Observation:
    return Observation(version=version, outcome=Outcome.TIMEOUT, similarity=0.0)


@pytest.fixture
async def shelf(database_url: str) -> AsyncIterator[Shelf]:
    async with opened(database_url) as engine:
        control = PostgresControl(engine)
        await register(control, spam("base", "A", "B"))
        async with control.change("ada") as change:
            experiment = await change.start_experiment(
                model="spam", candidates=["A", "B"], percent=25, bucket_seconds=3600, duration=86_400
            )
            epoch = await change.open_epoch(
                experiment, live="base", candidates=["A", "B"], comparator=COMPARATOR, reason="started"
            )
        yield Shelf(engine=engine, epoch=epoch)


async def fill(shelf: Shelf) -> None:
    """Three days of requests."""
    shelf.keep("r1", diverged("A", 0.5, 0.3), agreed("B"), received_at=NOON - 2 * DAY)
    shelf.keep("r2", diverged("A", 0.2, 0.1), diverged("B", 0.7, 0.2), received_at=NOON - DAY)
    shelf.keep("r3", failed("A"), agreed("B"), attributes={"country": "SE", "user": {"plan": "pro"}, "age": 7})
    shelf.keep("r4", agreed("A"), agreed("B"), why="sample", received_at=NOON + 1, attributes={"user.plan": "pro"})
    await shelf.commit()


async def test_answers_are_found_by_what_became_of_them(shelf: Shelf) -> None:
    await fill(shelf)
    assert await shelf.names(outcomes=(Outcome.DIVERGED,)) == ["r2/B", "r2/A", "r1/A"]
    assert await shelf.names(outcomes=(Outcome.TIMEOUT,)) == ["r3/A"]
    assert await shelf.names(version="B", outcomes=(Outcome.DIVERGED,)) == ["r2/B"]
    assert await shelf.names(least_similarity=0.2, most_similarity=0.5) == ["r2/A", "r1/A"]
    assert await shelf.names(sample_only=True) == ["r4/B", "r4/A"]
    assert await shelf.names(since=NOON) == ["r4/B", "r4/A", "r3/B", "r3/A"]
    assert await shelf.names(until=NOON - DAY) == ["r1/B", "r1/A"]


async def test_answers_are_found_by_the_attributes_of_their_requests(shelf: Shelf) -> None:
    await fill(shelf)
    assert await shelf.names(attributes=(("country", "SE"),)) == ["r3/B", "r3/A"]
    assert await shelf.names(version="A", attributes=(("user.plan", "pro"),)) == ["r4/A", "r3/A"]
    assert await shelf.names(version="A", attributes=(("age", "7"),)) == ["r3/A"], "7 and 7.0 are one number"
    assert await shelf.names(version="A", attributes=(("premium", "true"), ("country", "NO"))) == ["r2/A", "r1/A"]
    assert await shelf.names(attributes=(("country", "SE'; --"),)) == []


async def test_every_order_pages_by_key_and_misses_none(shelf: Shelf) -> None:
    await fill(shelf)
    everything = ["r4/B", "r4/A", "r3/B", "r3/A", "r2/B", "r2/A", "r1/B", "r1/A"]
    for size, reaches in itertools.product((1, 2, 100), ((), (0,), (1, 3), REACHES)):
        shelf.reaches = reaches
        assert await shelf.names(size=size) == everything
        by_similarity = await shelf.names(AnswerOrder.SIMILARITY, size=size)
        assert by_similarity == ["r2/A", "r1/A", "r2/B", "r1/B", "r3/B", "r4/A", "r4/B"], "who failed was not compared"
        by_latency = await shelf.names(AnswerOrder.LATENCY, size=size)
        assert by_latency == ["r1/A", "r2/B", "r2/A", "r4/B", "r4/A", "r3/B", "r1/B"], "who timed out has none"


async def test_a_list_by_value_is_the_same_however_little_of_the_index_is_looked_at(shelf: Shelf) -> None:
    dice = random.Random(5)
    for number in range(80):
        # Most values are there many times, as a classifier's similarities are.
        seen = [
            dice.choice([failed(name), agreed(name), *(diverged(name, likeness, 0.1) for likeness in (0.0, 0.5))])
            for name in ("A", "B")
        ]
        seen = [replace(each, latency=each.latency and dice.choice([0.1, 0.2])) for each in seen]
        why = dice.choice(["diverged", "sample", "session"])
        shelf.keep(f"r{number}", *seen, why=why, received_at=NOON - dice.choice([0, 1, 2]) * DAY)
    await shelf.commit()
    filters: list[dict[str, Any]] = [{}, {"version": "B"}, {"outcomes": (Outcome.DIVERGED,)}]
    for order, which in itertools.product((AnswerOrder.SIMILARITY, AnswerOrder.LATENCY), filters):
        shelf.reaches = ()
        sorted_whole = await shelf.names(order, size=100, **which)
        assert len(sorted_whole) == len(set(sorted_whole)) > 20
        shelf.reaches = (2, 11)
        assert await shelf.names(order, size=7, **which) == sorted_whole


async def test_answers_are_found_by_whether_somebody_looked(shelf: Shelf) -> None:
    await fill(shelf)
    (first, *_) = await shelf.listed(version="A", outcomes=(Outcome.DIVERGED,))
    await reviewing.record_review(
        PostgresReviews(shelf.engine),
        comparison_id=first.answer.place.id,
        version="A",
        verdict=ReviewVerdict.LIVE_BETTER,
        actor="ada",
    )
    assert await shelf.names(reviewed=True) == ["r2/A"]
    assert "r2/A" not in await shelf.names(reviewed=False)
    (again,) = await shelf.listed(reviewed=True)
    assert again.answer.review is not None
    assert (again.answer.review.verdict, again.answer.review.by) == (ReviewVerdict.LIVE_BETTER, "ada")


BOUNDS = [{}, {"page_rows": 1}, {"page_bytes": 1}, {"scanned_rows": 1}, {"page_rows": 3, "scanned_rows": 2}]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
async def test_an_export_hands_out_each_answer_once_whatever_its_pages(shelf: Shelf, bounds: dict[str, int]) -> None:
    await fill(shelf)
    found = await shelf.exported(bounds=bounds)
    names = [f"{each.answer.request_id}/{each.answer.seen.version}" for each in found]
    assert names == ["r1/A", "r1/B", "r2/A", "r2/B", "r3/A", "r3/B", "r4/A", "r4/B"]
    assert found[0].answer.request == b"\x00\\x request"
    assert [each.answer.seen.response for each in found[:2]] == [b"other", b"same"]
    rare = await shelf.exported(bounds=bounds, outcomes=(Outcome.TIMEOUT,))
    assert [each.answer.request_id for each in rare] == ["r3"]


async def test_an_export_goes_on_after_any_of_its_answers(shelf: Shelf) -> None:
    await fill(shelf)
    whole = await shelf.exported()
    for number, each in enumerate(whole):
        rest = await shelf.exported(cursor=each.cursor, bounds={"page_rows": 2})
        assert [other.answer.place for other in rest] == [other.answer.place for other in whole[number + 1 :]]
    shelf.keep("r5", diverged("A", 0.1), agreed("B"), received_at=NOON + 5)
    await shelf.commit()
    later = await shelf.exported(cursor=whole[-1].cursor)
    assert [each.answer.request_id for each in later] == ["r5", "r5"]


async def test_a_page_holds_no_more_bytes_than_it_may_or_one_answer(shelf: Shelf) -> None:
    for number in range(6):
        shelf.keep(f"r{number}", diverged("A", 0.1), request=b"x" * 10_000)
    await shelf.commit()
    answers = PostgresAnswers(shelf.engine, page_bytes=25_000)
    which = AnswerFilter(epochs=(shelf.epoch.id,))
    sizes, after = [], None
    while True:
        page = await answers.page(which, after=after)
        sizes.append(len(page.answers))
        after = page.next_place
        if after is None:
            break
    assert (sum(sizes), max(sizes)) == (6, 3)


def request(text: str, **attributes: str) -> bytes:
    message = prediction_pb2.PredictRequest(model="spam", text=text)
    message.attributes.update(attributes)
    return message.SerializeToString()


def answer(text: str) -> bytes:
    return prediction_pb2.PredictResponse(text=text).SerializeToString()


SECRETS = ("ada@example.org", "4111 1111 1111 1111", "ORD-123456", "+47 900 00 000")


async def plant(shelf: Shelf) -> None:
    """A request that was stored as it came, full of what must not leave."""
    words = " ".join(SECRETS)
    shelf.keep(
        "ada@example.org",
        diverged("A", 0.1, detail=f"said {words}", response=answer(words)),
        request=request(words, phone=SECRETS[3]),
        response=answer(words),
        attributes={"phone": SECRETS[3], "note": words},
        session_id="ada@example.org",
    )
    await shelf.commit()


STRICT = PrivacyTerms(
    payloads=Payloads.REDACTED,
    paths=("attributes.phone",),
    patterns=(Pattern.EMAIL, Pattern.CARD, Pattern.KEY, Pattern.PHONE),
    custom=(CustomPattern(name="order", regex="ORD-[0-9]{6}"),),
)


async def test_rules_that_are_younger_than_what_is_stored_hold_on_the_way_out(shelf: Shelf) -> None:
    await plant(shelf)
    (before,) = await shelf.exported()
    assert b"ada@example.org" in before.answer.request, "nothing is redacted that no rule names"
    await shelf.hold_to(STRICT)
    leaving = [*await shelf.exported(), *await shelf.listed()]
    (listed,) = await shelf.listed()
    leaving += await shelf.exports().of_comparison(listed.answer.place.id)
    assert len(leaving) == 3
    for each in leaving:
        said = repr(each.answer)
        assert not [secret for secret in SECRETS if secret in said]
        assert each.answer.payloads is Payloads.REDACTED
    (exported,) = await shelf.exported()
    assert "[email]" in prediction_pb2.PredictRequest.FromString(exported.answer.request).text
    assert exported.answer.request_id.startswith("hmac-sha256:")


async def test_nobody_finds_an_answer_by_what_is_hidden_now(shelf: Shelf) -> None:
    await fill(shelf)
    hidden, shown = (("country", "SE"),), (("user.plan", "pro"),)
    assert [len(await shelf.names(attributes=hidden)), len(await shelf.exported(attributes=hidden))] == [2, 2]
    await shelf.hold_to(PrivacyTerms(payloads=Payloads.REDACTED, paths=("attributes.country",)))
    assert [await shelf.names(attributes=hidden, size=1), await shelf.exported(attributes=hidden)] == [[], []]
    assert await shelf.names(attributes=shown, size=1) == ["r4/B", "r4/A", "r3/B", "r3/A"]
    assert await shelf.names(version="A", attributes=(("age", "7"), *shown)) == ["r3/A"]


@pytest.mark.parametrize("form", [Payloads.HASHED, Payloads.NONE])
async def test_what_may_not_be_stored_any_more_does_not_leave_either(shelf: Shelf, form: Payloads) -> None:
    await plant(shelf)
    await shelf.hold_to(PrivacyTerms(payloads=form))
    (exported,) = await shelf.exported()
    found = exported.answer
    assert not [secret for secret in SECRETS if secret in repr(replace(found, request_id=""))]
    sealed = [found.request, found.live_response, found.seen.response]
    assert all(each.startswith(b"hmac-sha256:") if form is Payloads.HASHED else each == b"" for each in sealed)
    assert (found.attributes, found.payloads) == ({}, form)


async def test_rules_that_change_while_an_export_runs_hold_from_the_next_page_on(shelf: Shelf) -> None:
    await plant(shelf)
    await plant(shelf)
    exports = shelf.exports(page_rows=1)
    subject = await exports.subject(model="spam", experiment_id=0)
    stream = exports.export(subject, AnswerFilter(epochs=(shelf.epoch.id,)), cursor="")
    assert b"ada@example.org" in (await anext(stream)).answer.request
    await shelf.hold_to(STRICT)
    assert b"ada@example.org" not in (await anext(stream)).answer.request


async def test_what_there_is_not_is_said(shelf: Shelf) -> None:
    exports = shelf.exports()
    with pytest.raises(NotFound, match="there is no experiment 99"):
        await exports.subject(model="spam", experiment_id=99)
    with pytest.raises(NotFound, match="there is no stored comparison 99"):
        await exports.of_comparison(99)
    subject = await exports.subject(model="spam", experiment_id=0)
    which = AnswerFilter(epochs=tuple(subject.epochs))
    with pytest.raises(InvalidInput, match="page_size: 501"):
        await exports.listed(subject, which, AnswerOrder.NEWEST, cursor="", size=501)
    by_time = exporting.cursor_of(AnswerPlace(date(2026, 11, 23), 1, 1), AnswerOrder.NEWEST)
    for cursor in ("x", "bm90IGpzb24", by_time):
        with pytest.raises(InvalidInput, match="cursor: this is"):
            await exports.listed(subject, which, AnswerOrder.LATENCY, cursor=cursor, size=1)


async def test_answers_over_the_api(shelf: Shelf, database_url: str) -> None:
    await fill(shelf)
    async with control_address(database_url) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = export_pb2_grpc.ExportServiceStub(channel)
        which = pb.AnswerFilter(outcomes=["diverged"], attributes={"country": "NO"}, most_similarity=0.6)
        request = pb.ListAnswersRequest(filter=which, order=pb.ANSWER_ORDER_SIMILARITY, page_size=1)
        first = await stub.ListAnswers(request)
        second = await stub.ListAnswers(pb.ListAnswersRequest(
            filter=which, order=pb.ANSWER_ORDER_SIMILARITY, page_size=1, cursor=first.next_cursor
        ))  # fmt: skip
        assert [page.answers[0].request_id for page in (first, second)] == ["r2", "r1"]
        assert not second.next_cursor
        line = first.answers[0]
        assert (line.version, line.live_version, line.similarity) == ("A", "base", 0.2)
        assert (line.latency_ms, line.live_latency_ms) == (pytest.approx(100), pytest.approx(12.5))
        assert dict(line.attributes) == {"country": "NO", "premium": True, "age": 41.0}
        assert not line.request, "a list has no payloads"
        shown = await stub.GetAnswers(pb.GetAnswersRequest(comparison_id=line.comparison_id))
        assert [(each.version, each.response) for each in shown.answers] == [("A", b"other"), ("B", b"other")]
        streamed = [each async for each in stub.Export(pb.ExportRequest(filter=which, actor="ada"))]
        assert [each.answer.request_id for each in streamed[:-1]] == ["r1", "r2"]
        assert not streamed[-1].HasField("answer")
        assert streamed[-1].cursor == streamed[-2].cursor
        rest = [each async for each in stub.Export(pb.ExportRequest(cursor=streamed[0].cursor, filter=which))]
        assert [each.answer.request_id for each in rest[:-1]] == ["r2"]
        for wrong in (
            pb.ExportRequest(cursor="x"),
            pb.ExportRequest(filter=pb.AnswerFilter(outcomes=["odd"])),
            pb.ExportRequest(filter=pb.AnswerFilter(least_similarity=float("nan"))),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Export(wrong).read()
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    audited = rows(database_url, "SELECT actor, subject FROM audit_log WHERE action = 'export' ORDER BY id")
    assert audited[0] == ("ada", "spam")
    assert len(audited) == 2, "what was refused took nothing out"
