"""Pages of divergent requests, as a browser without scripts asks for them: real stores, real versions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from html import unescape
from typing import Any, cast

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

import divergent_requests as requests
from divergent_requests import EVIL, asked, kept, label, structured, text
from multishadow.v1 import prediction_pb2
from multishadow_server.adapters.comparison_pool import ComparisonPool
from multishadow_server.adapters.model_gateway import GrpcModelGateway
from multishadow_server.adapters.postgres import PostgresControl
from multishadow_server.adapters.postgres.comparison_lists import STEPS, PostgresComparisonLists
from multishadow_server.adapters.postgres.reviews import PostgresReviews
from multishadow_server.adapters.stored_messages import ProtobufStoredMessages
from multishadow_server.core.access import Role
from multishadow_server.core.comparison_lists import ComparisonFilter, Place, Sort, Which, place_of
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.observation import Outcome
from multishadow_server.core.privacy import Payloads
from multishadow_server.core.segment_filter import parse
from multishadow_server.entrypoints import permissions
from multishadow_server.entrypoints.web import application
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.service.ports import StoredComparison
from store_fixtures import NOON, opened, rows
from version_servers import Context, failing, serving

SEALED = b"hmac-sha256:" + b"a" * 64


@dataclass(kw_only=True)
class Site:
    """The page, with an experiment of A and B beside base."""

    engine: AsyncEngine
    epoch: Epoch
    browser: httpx.AsyncClient
    batches: int = 0

    @property
    def lists(self) -> PostgresComparisonLists:
        return PostgresComparisonLists(self.engine)

    async def store(self, *comparisons: StoredComparison) -> None:
        await requests.store(self.engine, comparisons, after=self.batches)
        self.batches += 1

    async def page(self, path: str, **query: str) -> str:
        response = await self.browser.get(f"/ui/{path}", params=query)
        assert response.status_code == 200, response.text
        return response.text

    async def listed(self, **query: str) -> list[str]:
        """The requests that a list shows, in its order."""
        return ids_of(await self.page("experiments/1/divergences", **query))

    async def post(self, path: str, **fields: str) -> httpx.Response:
        return await self.browser.post(f"/ui/{path}", data=fields)


def ids_of(page: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'class="clip" title="([^"]*)"', page)]


def words_of(page: str) -> str:
    """What somebody reads."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@asynccontextmanager
async def site(database_url: str, **addresses: str) -> AsyncIterator[Site]:
    pool, gateway = ComparisonPool(), GrpcModelGateway(max_message_bytes=1 << 22)
    nobody = cast("Any", None)
    try:
        async with opened(database_url) as engine:
            epoch = await requests.begin(engine, addresses)
            desk = Desk(
                store=PostgresControl(engine), probe=nobody, labels=nobody, reviews=PostgresReviews(engine),
                backlog=nobody, alarms=nobody, probes=nobody, rollouts=nobody, dead_letters=nobody, sessions=nobody,
                audit=nobody, comparisons=PostgresComparisonLists(engine), messages=ProtobufStoredMessages(),
                gateway=gateway, comparer=pool, promotions=nobody, live=nobody, weekly_reports=nobody,
                report_renderer=nobody, hourly_counts_days=90,
            )  # fmt: skip
            made = application.routes(desk, Pages(tokens=False), doorkeeper=None, hosts=())
            transport = httpx.ASGITransport(app=Starlette(routes=[*made]))
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as browser:
                yield Site(engine=engine, epoch=epoch, browser=browser)
    finally:
        await gateway.aclose()
        await pool.aclose()


@pytest.fixture
async def shown(database_url: str) -> AsyncIterator[Site]:
    async with site(database_url) as running:
        yield running


def texts(epoch: Epoch, request_id: str, same: int, **more: Any) -> StoredComparison:
    """Of ten words, so many are the same in A's answer; B says the same as live."""
    live = " ".join(f"w{n}" for n in range(10))
    other = " ".join(f"w{n}" if n < same else f"x{n}" for n in range(10))
    return kept(epoch, text(live), {"A": text(other), "B": text(live)}, request_id=request_id, **more)


async def some_of_each(shown: Site) -> None:
    epoch, at = shown.epoch, NOON
    await shown.store(
        texts(epoch, "half", 5, at=at, attributes={"country": "NO", "age": 30.0}, latency=0.5),
        texts(epoch, "none", 0, at=at + 60, attributes={"country": "SE", "age": 60.0}, session_id="s1"),
        texts(epoch, "most", 8, at=at + 120, attributes={"app": {"country": "NO"}}),
        texts(epoch, "same", 10, at=at + 180, why="sample"),
        texts(epoch, "turn", 10, at=at + 240, why="session", session_id="s1"),
        kept(epoch, text("w"), {"A": Outcome.TIMEOUT, "B": text("w")}, request_id="hung", at=at + 300),
        kept(epoch, text("w"), {"A": label("w"), "B": text("w")}, request_id="kind", at=at + 360),
    )


async def test_divergent_requests_are_listed_the_least_similar_first(shown: Site) -> None:
    await some_of_each(shown)
    assert await shown.listed() == ["none", "half", "most"]
    assert await shown.listed(which="failed") == ["hung"]
    assert await shown.listed(which="uncomparable") == ["kind"]
    assert set(await shown.listed(which="agreed")) == {"same", "kind"}, "B agreed beside what could not be compared"
    assert set(await shown.listed(which="all")) == {"none", "half", "most", "same", "turn", "hung", "kind"}
    assert (await shown.listed(which="all", sort="newest"))[:2] == ["kind", "hung"]
    assert (await shown.listed(which="all", sort="slowest"))[:2] == ["hung", "half"]


FILTERS: tuple[tuple[dict[str, str], list[str]], ...] = (
    ({"segment": "country=NO"}, ["half"]),
    ({"segment": "attributes.age=[20, 50)"}, ["half"]),
    ({"segment": "app.country=NO"}, ["most"]),
    ({"segment": "hour (UTC)=13"}, []),
    ({"segment": "hour (UTC)=12"}, ["none", "half", "most"]),
    ({"segment": "request bytes=[20, 50)"}, ["none", "half", "most"]),
    ({"least": "0.4", "most": "0.6"}, ["half"]),
    ({"slower": "400"}, ["half"]),
    ({"slower": "400", "which": "all"}, ["half", "hung"]),
    ({"version": "B"}, []),
    ({"since": "2026-11-23T12:01", "until": "2026-11-23T12:02"}, ["none"]),
    ({"reviewed": "yes"}, []),
    ({"reviewed": "no", "version": "A"}, ["none", "half", "most"]),
)


async def test_a_list_shows_what_fits_its_filter(shown: Site) -> None:
    await some_of_each(shown)
    for query, found in FILTERS:
        assert await shown.listed(**query) == found, query


async def test_every_order_is_walked_page_by_page_without_missing_or_repeating_any(shown: Site) -> None:
    await shown.store(*(texts(shown.epoch, f"r{n}", n % 9, at=NOON + n % 7, latency=n % 5 / 10) for n in range(40)))
    for sort in Sort:
        places, ids, at = list[Place](), list[int](), None
        while True:
            page = await shown.lists.page(
                shown.epoch.id, ComparisonFilter(which=Which.DIVERGED), sort=sort, after=at, most=7
            )
            places += [each.place for each in page.comparisons]
            ids += [each.id for each in page.comparisons]
            for each in page.comparisons:
                assert each.place == place_of(
                    sort, comparison_id=each.id, received_at=each.received_at, observations=each.observations
                ), "the index and the core know the same place"
            if (at := page.next) is None:
                break
        assert sorted(ids) == list(range(1, 41))
        assert places == sorted(places, reverse=sort.descending)
        back = await shown.lists.page(
            shown.epoch.id, ComparisonFilter(), sort=sort, after=places[20], most=3, backwards=True
        )
        assert [each.id for each in back.comparisons] == ids[19:16:-1]


async def test_the_next_page_begins_where_the_last_one_ended(shown: Site) -> None:
    await shown.store(*(texts(shown.epoch, f"r{n:02}", 0, at=NOON + n) for n in range(70)))
    first = await shown.page("experiments/1/divergences", sort="oldest")
    (link,) = re.findall(r'rel="next"[^>]*href="([^"]*)"', first)
    second = (await shown.browser.get(unescape(link))).text
    assert [*ids_of(first), *ids_of(second)] == [f"r{n:02}" for n in range(70)]
    assert 'rel="next"' not in second


async def test_a_filter_that_fits_almost_nothing_is_searched_for_a_bounded_time(shown: Site) -> None:
    await shown.store(texts(shown.epoch, "first", 5, at=NOON, attributes={"country": "XX"}))
    columns = (
        "epoch_id, method, revision, request, status_code, status_message, response, live_latency, observations, "
        "shadow_responses, kept_because"
    )
    async with shown.engine.begin() as connection:
        await connection.exec_driver_sql(
            f"INSERT INTO comparison (day, request_id, session_id, received_at, attributes, {columns}) "
            f"SELECT day, 'r', '', received_at + n * interval '1 ms', '{{}}', {columns} "
            f"FROM comparison, generate_series(1, {sum(STEPS) + 5}) AS n"
        )
    which = ComparisonFilter(segment=parse("country=XX"))
    page = await shown.lists.page(shown.epoch.id, which, sort=Sort.NEWEST, after=None, most=10)
    assert (page.comparisons, page.searched) == ([], sum(STEPS))
    assert page.next is not None
    rest = await shown.lists.page(shown.epoch.id, which, sort=Sort.NEWEST, after=page.next, most=10)
    assert ([each.request_id for each in rest.comparisons], rest.next) == (["first"], None)
    seen = await shown.page("experiments/1/divergences", segment="country=XX", sort="newest")
    assert "Go on searching" in seen


async def test_two_answers_stand_side_by_side_with_what_differs(shown: Site) -> None:
    await some_of_each(shown)
    page = await shown.page("comparisons/1", segment="country=NO")
    assert "<del>w5 w6 w7 w8 w9</del>" in page
    assert "<ins>x5 x6 x7 x8 x9</ins>" in page
    said = words_of(page)
    for words in ("What is the capital of Norway?", "500 ms", "5 words are the same", "country=NO", "age=[20, 50)"):
        assert words in said
    turns = words_of(await shown.page("comparisons/2"))
    assert "Stored turns of this session this one" in turns


async def test_fields_that_differ_come_before_those_that_do_not(shown: Site) -> None:
    live, other = structured(total=1.0, id="7", same="x"), structured(total=2.0, id="8", same="x", more=True)
    await shown.store(kept(shown.epoch, live, {"A": other}))
    said = words_of(await shown.page("comparisons/1"))
    assert "2 of 3 compared fields differ" in said
    assert said.index("total 1.0 2.0") < said.index("more missing true") < said.index("1 field is ignored")


async def test_neighbours_are_those_of_the_same_list(shown: Site) -> None:
    await some_of_each(shown)
    middle = await shown.page("comparisons/1")
    assert '/ui/comparisons/2"' in middle, "none is before it"
    assert '/ui/comparisons/3"' in middle, "most is after it"
    alone = await shown.page("comparisons/1", segment="country=NO")
    assert not re.findall(r'rel="(next|prev)"', alone)


async def test_what_was_not_stored_as_it_was_is_said_to_be_so_and_is_not_sent_again(shown: Site) -> None:
    asked_for = {
        Payloads.HASHED: (SEALED, SEALED, SEALED, "was stored as its hash: what differs cannot be shown"),
        Payloads.NONE: (b"", b"", b"", "was not stored: what differs cannot be shown"),
        Payloads.REDACTED: (asked("[email]"), text("a [email]"), text("b [email]"), "Redacted before it was stored"),
    }
    for number, (payloads, (request, live, answer, said)) in enumerate(asked_for.items(), start=1):
        stored = kept(shown.epoch, text("a"), {"A": text("b")}, request=request, payloads=payloads, response=live)
        await shown.store(replace(stored, observations=[replace(stored.observations[0], response=answer)]))
        page = words_of(await shown.page(f"comparisons/{number}"))
        assert said in page
        assert "nothing to send" in page or "is another request" in page
        assert (await shown.post(f"comparisons/{number}/rerun")).status_code == 303
    async with shown.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT FROM audit_log WHERE action = 'rerun'")).first() is None


async def test_after_a_verdict_comes_the_next_one_and_the_verdict_can_be_undone(shown: Site) -> None:
    await some_of_each(shown)
    said = await shown.post("comparisons/2/review?version=A", version="A", verdict="live better", before="")
    assert said.status_code == 303
    assert said.headers["location"] == "/ui/comparisons/1?version=A"
    told = "Live better : A's answer in comparison 2"
    assert told in words_of((await shown.browser.get(said.headers["location"])).text)
    # There alone, and by no link of somebody else's.
    assert told not in words_of(await shown.page("comparisons/3?version=A"))
    shown.browser.cookies.clear()
    forged = "?version=A&judged=2&judged_version=A&judged_as=live+better&judged_before=both+fine"
    assert "Undo" not in await shown.page(f"comparisons/1{forged}")
    assert await shown.listed(reviewed="yes") == ["none"]
    assert await shown.listed(reviewed="no") == ["half", "most"]
    undone = await shown.post("comparisons/2/review?version=A", version="A", verdict="", undo="yes")
    assert undone.headers["location"] == "/ui/comparisons/2?version=A"
    assert "The verdict on A in comparison 2 is taken back." in await shown.page("comparisons/2")
    assert await shown.listed(reviewed="yes") == []
    control = PostgresControl(shown.engine)
    cells = (await control.rollup(shown.epoch.id)).cells
    assert [n for cell, n in cells.items() if n and cell.family in {"review", "difference"}] == []


async def test_after_the_last_one_there_is_nowhere_to_go_on(shown: Site) -> None:
    await some_of_each(shown)
    said = await shown.post("comparisons/3/review?version=A", version="A", verdict="both fine", before="")
    assert said.headers["location"] == "/ui/comparisons/3?version=A"
    assert "It was the last one of the list." in (await shown.browser.get(said.headers["location"])).text


async def test_a_verdict_that_cannot_be_is_refused(shown: Site) -> None:
    await some_of_each(shown)
    for number, version, verdict, said in (
        (6, "A", "both fine", "gave no answer there"),
        (1, "Z", "both fine", "holds nothing of"),
        (1, "A", "excellent", "is none of"),
        (1, "A", "", "there is no verdict"),
        (99, "A", "both fine", "there is no stored comparison 99"),
    ):
        refused = await shown.post(f"comparisons/{number}/review", version=version, verdict=verdict)
        assert refused.status_code == 303
        assert said in unescape(await shown.page("comparisons/1")), verdict


async def test_both_versions_are_asked_again_and_nothing_is_counted(database_url: str) -> None:
    async def better(_request: prediction_pb2.PredictRequest, _context: Context) -> prediction_pb2.PredictResponse:
        return prediction_pb2.PredictResponse(text="Oslo it is now")

    async with (
        serving(better) as live,
        serving(better) as a,
        serving(failing()) as b,
        site(database_url, base=live.address, A=a.address, B=b.address) as shown,
    ):
        await shown.store(texts(shown.epoch, "r1", 0))
        before = rows(database_url, "SELECT count(*) FROM rollup")
        response = await shown.post("comparisons/1/rerun")
        assert response.status_code == 200
        said = words_of(response.text)
        assert "A now, beside base now" in said
        assert "agree 1.0000" in said, "beside live's new answer"
        assert "diverge 0.0000" in said, "beside its stored one"
        assert "INTERNAL out of order" in said
        assert a.calls["r1"] == live.calls["r1"] == 0, "its id was never in the request's bytes"
        assert a.metadata[0]["x-multishadow-replay"] == a.metadata[0]["x-shadow-deployment"] == "true"
        assert a.metadata[0]["x-multishadow-request-id"] == "r1"
        assert rows(database_url, "SELECT count(*) FROM rollup") == before
        record = "SELECT actor, subject, detail->>'comparison' FROM audit_log WHERE action = 'rerun'"
        assert rows(database_url, record) == [("the web page", "spam", "1")]


async def test_a_request_that_writes_is_not_sent_again(shown: Site) -> None:
    await shown.store(texts(shown.epoch, "r1", 0, attributes={"x-multishadow-write": "true"}))
    assert "It writes" in await shown.page("comparisons/1")
    refused = await shown.post("comparisons/1/rerun")
    assert refused.status_code == 303
    assert "it is not sent again" in await shown.page("comparisons/1")


async def test_hostile_answers_are_shown_as_text_and_in_part(shown: Site) -> None:
    stored = requests.hostile(shown.epoch)
    await shown.store(*stored)
    for number in range(1, len(stored) + 1):
        page = await shown.page(f"comparisons/{number}")
        assert len(page) < 1_000_000
        assert EVIL not in page
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    page = await shown.page("experiments/1/divergences", which="all")
    assert "<script>alert" not in page
    assert len(ids_of(page)) == len(stored)


async def test_what_is_not_there_is_said_on_a_page(shown: Site) -> None:
    for path, status in (
        ("comparisons/99", 404),
        ("comparisons/x", 404),
        (f"comparisons/{'9' * 40}", 404),
        ("experiments/99/divergences", 404),
        ("experiments/x/divergences", 400),
        ("experiments/1/divergences?after=x", 400),
        ("experiments/1/divergences?version=Z", 404),
        ("experiments/1/divergences?epoch=7", 404),
        ("experiments/1/divergences?segment=country%3D(other)", 400),
    ):
        response = await shown.browser.get(f"/ui/{path}")
        assert response.status_code == status, path
        assert "multishadow" in response.text


def test_judging_and_rerunning_take_an_operator() -> None:
    for path in ("/ui/comparisons/1/review", "/ui/comparisons/1/rerun"):
        assert permissions.of_path(path, "POST") is Role.OPERATOR
    assert permissions.of_path("/ui/comparisons/1") is Role.VIEWER
