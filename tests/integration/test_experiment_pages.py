"""An experiment's pages, asked of the real control on a real PostgreSQL."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from multishadow.v1 import control_pb2 as pb
from multishadow_server.adapters.postgres import PostgresControl, PostgresObservations
from multishadow_server.adapters.postgres.alarms import PostgresAlarms
from multishadow_server.adapters.postgres.promotions import PostgresPromotions
from multishadow_server.app import tokens
from multishadow_server.core.experiment import Epoch
from multishadow_server.core.tally import Tally
from multishadow_server.entrypoints.web import experiment
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.service.ports import Flush
from multishadow_server.service.recent import Recent
from multishadow_server.settings import Settings
from running_control import Control, asked, control_addresses
from sightings import LIVE_LATENCY, seen
from store_fixtures import opened
from waiting import PATIENCE

HOURS = 12
PAGES = ("", "/course", "/answers", "/gates", "/segments")


@asynccontextmanager
async def site(database_url: str, **settings: str) -> AsyncIterator[tuple[Control, httpx.AsyncClient]]:
    """Control, asked by gRPC and by a browser that follows where it is sent."""
    async with (
        control_addresses(database_url, **settings) as (address, http),
        asked(address) as control,
        httpx.AsyncClient(base_url=f"http://{http}/ui", follow_redirects=True, timeout=PATIENCE) as browser,
    ):
        yield control, browser


@pytest.fixture
async def page(database_url: str) -> AsyncIterator[tuple[Control, httpx.AsyncClient]]:
    async with site(database_url) as found:
        yield found


async def count(database_url: str, *, patterns: dict[str, int], candidates: tuple[str, ...] = ("A", "B")) -> Epoch:
    """Commit half a day of the same captures in every hour; B fails callers from Norway alone."""
    async with opened(database_url) as engine:
        (epoch,) = (await PostgresControl(engine).read()).epochs
        tally = Tally()
        for hour in range(HOURS):
            for pattern, captures in patterns.items():
                for _ in range(captures):
                    tally.add_capture(
                        epoch,
                        received_at=epoch.opened_at + 3600 * hour,
                        live_latency=LIVE_LATENCY,
                        observations=seen(candidates, pattern),
                        segments=[f"hour (UTC)={hour:02d}", f"attributes.country={'NO' if 'b' in pattern else 'DE'}"],
                    )
        flush = Flush(log_id="log", partition=0, previous_offset=0, offset=1, rollups=tally.rollups())
        await PostgresObservations(engine).commit(flush)
    return epoch


def told(response: httpx.Response) -> str:
    """The words of a page, as somebody reads them."""
    assert response.status_code == 200, response.text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


async def test_the_pages_say_what_compare_says(page: tuple[Control, httpx.AsyncClient], database_url: str) -> None:
    control, browser = page
    await control.apply("base", "A", "B")
    await control.start("A", "B")
    await count(database_url, patterns={"oo": 90, "ob": 9, "bo": 1})
    report = await control.compare()
    ranking = told(await browser.get("/experiments/1"))
    assert report.advice.replace("`", " ").split() == _advice(ranking, report.advice)
    best, worst = report.candidates
    assert (best.version, worst.version) == ("A", "B")
    for said in ("1.00 %", "9.00 %", "A is proven better than B", "A is better", "1,200"):
        assert said in ranking
    evidence = re.findall(
        r"<script type=\"application/json\">(.*?)</script>", (await browser.get("/experiments/1/course")).text
    )
    against = json.loads(evidence[0])["lines"][0]
    (pair,) = report.pairs
    assert against["label"] == "B"
    assert against["values"][-1] == pytest.approx(pair.log_evidence_second_worse / 2.302585092994046, abs=1e-5)
    gates = told(await browser.get("/experiments/1/gates"))
    for review in (await control.stub.ListGates(pb.ListGatesRequest())).reviews:
        assert review.verdict in gates
        assert all(" ".join(gate.number.split()) in gates for gate in review.gates if gate.name != "minimum_duration")
    segments = told(await browser.get("/experiments/1/segments", params={"candidate": "B"}))
    assert "B diverges more often where country is NO (90.00 % against 0.00 %)" in segments
    assert "more than the rest" in segments
    answers = told(await browser.get("/experiments/1/answers"))
    assert "Latency in production live base, of the requests that A got a copy of" in answers


def _advice(page: str, advice: str) -> list[str]:
    words = advice.replace("`", " ").split()
    read = page.split()
    start = next(place for place in range(len(read)) if read[place : place + 4] == words[:4])
    return read[start : start + len(words)]


async def test_every_page_shows_an_experiment_of_one_and_one_without_any_comparison(
    page: tuple[Control, httpx.AsyncClient],
) -> None:
    control, browser = page
    assert "No experiment yet" in told(await browser.get("/experiments"))
    await control.apply("base", "A", "B")
    await control.start("A")
    for path in PAGES:
        told(await browser.get(f"/experiments/1{path}"))
    assert "One candidate is compared with live alone" in told(await browser.get("/experiments/1/course"))
    listed = told(await browser.get("/experiments"))
    assert "spam 1 running A" in listed
    assert (await browser.get("/experiments/2")).status_code == 404
    assert (await browser.get("/experiments/0")).status_code == 404
    assert (await browser.get("/experiments", params={"after": "x"})).status_code == 400
    assert (await browser.get("/experiments/1/segments", params={"candidate": "B"})).status_code == 404


async def test_people_vouch_waive_promote_roll_back_and_stop(
    page: tuple[Control, httpx.AsyncClient], database_url: str
) -> None:
    control, browser = page
    await control.apply("base", "A", "B")
    await control.start("A", "B")
    await count(database_url, patterns={"oo": 90, "ob": 9, "bo": 1})
    before = told(await browser.get("/experiments/1/gates"))
    assert "The cost is accepted…" in before
    assert "Roll back…" not in before, "there is nothing to take back"
    kept = told(await browser.post("/experiments/1/attest", data={"version": "A", "what": "cost", "note": "as <now>"}))
    assert "On record: cost for A." in kept
    assert "attested by the web page" in kept
    assert "as <now>" in kept
    refused = told(await browser.post("/experiments/1/waive", data={"version": "A", "gate": "drift", "reason": " "}))
    assert "say why this gate need not hold" in refused
    waived = told(
        await browser.post("/experiments/1/waive", data={"version": "A", "gate": "divergence", "reason": "so"})
    )
    assert "divergence is waived for A" in waived
    asked_back = told(await browser.get("/experiments/1/promote", params={"version": "A"}))
    assert "1 spam.A shadow live" in asked_back
    held = told(await browser.post("/experiments/1/promote", data={"version": "A", "percent": "100", "reason": ""}))
    assert "does not answer at 127.0.0.1:9" in held
    assert await control.live() == "base"
    forced = {"version": "A", "percent": "100", "reason": "for a test", "force": "yes"}
    assert "A is live from revision" in told(await browser.post("/experiments/1/promote", data=forced))
    assert await control.live() == "A"
    assert "Roll back…" in told(await browser.get("/experiments/1/gates"))
    asking = await browser.get("/experiments/1/rollback")
    assert "Make base live again" in told(asking)
    (promoted,) = re.findall(r'name="promotion" value="(\d+)"', asking.text)
    undoing = {"reason": "for a test", "promotion": promoted}
    assert "base is live again" in told(await browser.post("/experiments/1/rollback", data=undoing))
    # Pressed twice, it takes back no other.
    assert "base is live again" not in told(await browser.post("/experiments/1/rollback", data=undoing))
    assert await control.live() == "base"
    assert "Stop the experiment" in told(await browser.get("/experiments/1/stop"))
    assert "Experiment 1 is stopped" in told(await browser.post("/experiments/1/stop", data={"reason": "enough"}))
    assert (await control.flags())["B"] == "off"
    again = told(await browser.post("/experiments/1/stop", data={"reason": "enough"}))
    assert "experiment 1 has ended already; nothing was changed" in again
    await control.start("B")
    late = told(await browser.post("/experiments/1/attest", data={"version": "A", "what": "cost", "note": "late"}))
    assert "experiment 1 of spam is over, and 2 is the latest" in late


async def test_a_viewer_sees_everything_and_changes_nothing(database_url: str) -> None:
    made = await tokens.create(Settings(database_url=database_url), name="vera", role="viewer", life=None)
    async with site(database_url) as (control, _):
        await control.apply("base", "A", "B")
        await control.start("A", "B")
    await count(database_url, patterns={"oo": 90, "ob": 9, "bo": 1})
    async with site(database_url, auth="tokens") as (_, browser):
        assert "Sign in" in told(await browser.get("/experiments/1"))
        await browser.post("/sign-in", data={"token": made.text})
        for path in PAGES:
            told(await browser.get(f"/experiments/1{path}"))
        gates = (await browser.get("/experiments/1/gates")).text
        buttons = re.findall(r"<button class=\"(?:primary|danger)\"([^>]*)>(?!Close)", gates)
        assert buttons
        assert all("disabled" in button for button in buttons)
        for path in ("attest", "waive", "promote", "stop", "rollback"):
            assert (await browser.post(f"/experiments/1/{path}", data={"version": "A"})).status_code == 403


async def test_figures_that_stand_in_for_new_ones_are_said_to_be_old(database_url: str) -> None:
    async with site(database_url) as (control, _):
        await control.apply("base", "A", "B")
        await control.start("A", "B")
    await count(database_url, patterns={"oo": 9, "ob": 1})
    now = [time.time()]
    async with opened(database_url) as engine:
        desk = Desk(
            **{
                **dict.fromkeys((field.name for field in fields(Desk)), cast("Any", None)),
                "store": PostgresControl(engine),
                "alarms": PostgresAlarms(engine),
                "promotions": PostgresPromotions(engine),
                "clock": lambda: now[0],
                # Its clock stands still: nothing is ever too old to be reused.
                "recent": Recent(monotonic=lambda: 0.0),
            }
        )
        shown = httpx.ASGITransport(Starlette(routes=experiment.routes(Pages(tokens=False), desk)))
        async with httpx.AsyncClient(transport=shown, base_url="http://page/ui") as browser:
            assert "These figures were read" not in told(await browser.get("/experiments/1"))
            now[0] += 3_000
            late = await browser.get("/experiments/1/segments", params={"candidate": "B"})
            assert "These figures were read" not in told(late)
            old = await browser.get("/experiments/1")
            assert "new ones are being worked out" in told(old)
            assert 'hx-get="/ui/experiments/1"' in old.text
            # Somebody may be writing a reason there.
            gates = await browser.get("/experiments/1/gates")
            assert "new ones are being worked out" in told(gates)
            assert "hx-get" not in gates.text
