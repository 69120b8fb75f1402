"""The web page over a real store: every page shows what goes on, and every button does what it says."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from test_control_access import issued

from multishadow_server.adapters.embedded import EmbeddedPostgres
from multishadow_server.adapters.postgres.promotions import PostgresLiveFigures, PostgresPromotions
from page_world import fill
from running_control import control_addresses
from store_fixtures import opened, rows
from waiting import PATIENCE

# The world stands still: what control would find of it by itself is other tests' matter.
STILL: dict[str, Any] = {"watch_interval": 3_600.0, "rollout_interval": 3_600.0, "alarm_clear_after": 1e6}


@pytest.fixture(scope="module")
def filled(postgres: EmbeddedPostgres, migrated_template: str) -> str:
    """Name of a database in which everything goes on, to make others from: to fill one takes a while."""
    asyncio.run(fill(postgres.create_database("page_world", template=migrated_template)))
    return "page_world"


@pytest.fixture
def world(postgres: EmbeddedPostgres, filled: str) -> Iterator[str]:
    """A world of this test's own."""
    yield postgres.create_database("page_world_of_one_test", template=filled)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE page_world_of_one_test WITH (FORCE)")


@asynccontextmanager
async def browsing(database_url: str, token: str = "", **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    cookies = {"multishadow_token": token} if token else {}
    async with (
        control_addresses(database_url, **(STILL | settings)) as (_, http),
        httpx.AsyncClient(
            base_url=f"http://{http}/ui", cookies=cookies, follow_redirects=True, timeout=PATIENCE
        ) as browser,
    ):
        yield browser


def text(page: httpx.Response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


async def shown(browser: httpx.AsyncClient, path: str, *said: str) -> str:
    """The page's source; it must say all of these."""
    page = await browser.get(path)
    assert page.status_code == 200, text(page)
    assert [each for each in said if each not in text(page)] == [], text(page)
    return page.text


async def done(browser: httpx.AsyncClient, path: str, said: str, **fields: object) -> None:
    """Press a button: the page that follows must say so, at its top."""
    page = await browser.post(path, data=fields)
    assert page.status_code == 200, text(page)
    found = re.findall(r'<p class="notice (?:done|failed)"[^>]*>(.*?)</p>', page.text, flags=re.DOTALL)
    assert said in html.unescape(" ".join(found)), text(page)


def revision_on(source: str) -> str:
    """The revision that the page's forms were made at."""
    found = re.search(r'name="revision" value="(\d+)"', source)
    assert found is not None
    return found[1]


async def test_every_page_shows_what_goes_on(world: str) -> None:
    async with browsing(world) as browser:
        overview = await shown(
            browser, "/", "Callers get v2 , live since", "by ann", "shadow silent", "Rollout 1", "at 5 %",
            "A, B on 25 % of requests", "A diverges on 0.25 % of 12,000, B diverges on 3.95 % of 11,973",
            "B shadow 25 % paused compared", "only live no request lately",
        )  # fmt: skip
        # Production stands apart from shadows: A answers a share of the callers, B none.
        production, others = overview.split("Other versions", 1)
        assert 'scope="row">A' in production
        assert 'scope="row">A' not in others.split("</table>")[0]
        await shown(
            browser, "/models/fraud", "its database moves", "50", "20 failures in a row", "Gates", "quality",
            "similarity ≥ 0.85", "country, amount_band", "A over base", "agreed with risk", "serves a share",
        )  # fmt: skip
        await shown(browser, "/models/summary", "v3 over v2", "by cy", "half as slow", "Nothing was compared yet")
        await shown(
            browser, "/flags", "checkout.colour", "targeting rule", "version of fraud", "live 5 % (else shadow)"
        )
        await shown(browser, "/flags/fraud.A", "router-1", "acts on it", "router-2", "not yet", "registered")
        await shown(
            browser, "/flags/checkout.colour", '"defaultVariant": "blue"', "Norwegians stay with red", "Revision 4"
        )
        await shown(browser, "/flags/banner", "deleted", "nobody reads it")
        await shown(browser, "/rollouts", "A over base", "running")
        await shown(
            browser, "/rollouts/1", "five percent by noon", "1 of 2,561 failed", "kept", "Not acknowledged by router-2",
            "Next: wait, dwelling", "cautious",
        )  # fmt: skip
        await shown(
            browser, "/alarms", "B answered none of 412 copies", "another worker is on its way", "fraud", "wrong"
        )
        await shown(browser, "/alarms/probes/fraud", "never asked → failing", "connection refused")
        await shown(browser, "/audit", "pause shadowing", "its database moves", "put flags")
        await shown(
            browser, "/system", "25 % of what flags say", "buffer full 1,204", "1 min 14 s", "fraud.B", "99.97 %",
            "it cannot be asked", "2 routers, 1 worker, 1 control",
        )  # fmt: skip


async def test_lists_go_on_by_key_to_their_end_and_filters_keep_to_what_was_asked(world: str) -> None:
    async with browsing(world) as browser:
        path, found = "/dead-letters", list[str]()
        while path:
            source = await shown(browser, path)
            found += re.findall(r'href="/ui/dead-letters/(\d+)"', source)
            path = html.unescape("".join(re.findall(r'rel="next" href="/ui([^"]*)"', source)))
        assert found == [str(n) for n in range(121, 0, -1)]
        waiting = await shown(browser, "/dead-letters?model=fraud&version=B&state=waiting", "80", "40")
        assert "parked</span>" not in waiting
        await shown(browser, "/dead-letters/1", '{"amount": 129.9}\\x00\\xff', "UNAVAILABLE", "\\xff response")
        await shown(browser, "/dead-letters/121", "no capture batch", "nonsense", "Message")
        audit = await shown(browser, "/audit?action=promote", "summary.v3", "half as slow")
        assert "put flags" not in audit
        none = await shown(
            browser, "/audit?actor=ann&subject=greeting&since=2999-01-01", "Nobody did anything like that."
        )
        assert 'value="2999-01-01"' in none
        prefixed = await shown(browser, "/flags?prefix=fraud.", "fraud.C")
        assert "checkout.colour" not in prefixed
        older = await shown(browser, "/alarms?after=2", "drops A")
        assert "acknowledged" not in older.split('id="history"')[1].lower().split("<tbody>")[1]
        for missing in (
            "models/none",
            "flags/none",
            "rollouts/9",
            "dead-letters/999",
            "alarms/probes/none",
            "rollouts/x",
        ):
            assert (await browser.get(f"/{missing}")).status_code == 404, missing


async def test_versions_are_paused_flagged_promoted_and_rolled_back_from_their_models_page(world: str) -> None:
    async with browsing(world) as browser:
        at = "/models/fraud/versions"
        await done(browser, f"{at}/B/resume", "B is shadowed again")
        await done(browser, f"{at}/C/pause", "until it is resumed or the time is over", seconds="3600", reason="a test")
        await shown(browser, "/models/fraud", "Nobody copies requests to it", "the web page, a test")
        source = await shown(browser, "/models/fraud")
        flag = {"claim": "shadow", "percent": "12.5 %", "revision": revision_on(source)}
        await done(browser, f"{at}/C/flag", "fraud.C is set, revision", **flag)
        await shown(browser, "/flags/fraud.C", "shadow 12.5 %", "by the web page")
        await done(browser, f"{at}/C/flag", "somebody changed something first", **flag)
        await done(browser, f"{at}/C/flag", "choose off or shadow, not 'live'", claim="live")
        await done(browser, f"{at}/B/promote", "rollout", how="once", force="yes", reason="a test")
        await done(browser, "/models/summary/versions/v3/promote", "v3 does not answer at models.internal")
        await done(browser, "/models/summary/versions/v3/promote", "reason: ", how="once", force="yes")
        await done(
            browser, "/models/summary/versions/v3/promote", "Rollout 2 has begun: 1, 5, 25, 50, 100 %", how="stages",
            force="yes", reason="a test",
        )  # fmt: skip
        source = await shown(browser, "/models/summary", "Roll back v3")
        (promoted,) = re.findall(r'name="promotion" value="(\d+)"', source)
        undoing = {"reason": "a test", "promotion": promoted}
        await done(browser, "/models/summary/rollback", "v3 was rolled back: v2 is live", **undoing)
        # Pressed twice, it takes back no other.
        await done(browser, "/models/summary/rollback", "another one by now", **undoing)
        await done(
            browser, "/models/summary/versions/v3/promote", "v3 is live in place of v2", how="once", force="yes",
            reason="again",
        )  # fmt: skip
        await shown(browser, "/", "Callers get v3 , live since", "by the web page")
        assert (await browser.get("/models/summary?after=2")).text.count("half as slow") == 1
    by = "SELECT DISTINCT changed_by FROM flag_revision WHERE key = 'summary.v3' AND reason IN ('again', 'a test')"
    assert rows(world, by) == [("the web page",)]


async def test_flags_rollouts_letters_and_alarms_are_changed_from_their_pages(world: str) -> None:
    async with browsing(world) as browser:
        source = await shown(browser, "/flags/checkout.colour")
        revert = {"to_revision": "4", "revision": revision_on(source), "reason": "a test"}
        await done(browser, "/flags/checkout.colour/revert", "says again what it said at revision 4", **revert)
        await done(browser, "/flags/checkout.colour/revert", "somebody was first", **(revert | {"to_revision": "5"}))
        await done(browser, "/flags/checkout.colour/revert", "to_revision: say which")
        await done(browser, "/flags/fraud.base/revert", "says what it said at revision 1 already", to_revision="1")

        await done(browser, "/rollouts/1/pause", "Rollout 1 is paused, at 5 %", reason="lunch")
        await done(browser, "/rollouts/1/pause", "is paused already by the web page: lunch")
        await shown(browser, "/rollouts/1", "Paused by the web page: lunch", "Resume")
        await done(browser, "/rollouts/1/resume", "Rollout 1 goes on")
        await done(browser, "/rollouts/1/step", "does not say what it was made for")
        await done(browser, "/rollouts/1/step", "Rollout 1 was stepped on, at 25 %", stage=1)
        await done(browser, "/rollouts/1/step", "at 25 % by now", stage=1)
        await done(browser, "/rollouts/1/abort", "Rollout 1 was aborted", reason="enough")
        await done(browser, "/rollouts/1/step", "rollout 1 of fraud is aborted already: enough", stage=2)
        ended = await shown(browser, "/rollouts/1", "Aborted", "enough", "25 %")
        assert "Step on" not in ended
        assert (await browser.post("/rollouts/9/abort")).status_code == 404

        await done(browser, "/dead-letters/retry", "Workers try 1 once more now.", id="1")
        await done(browser, "/dead-letters/retry", "1 cannot be tried again.", id="121")
        await done(browser, "/dead-letters/purge", "1 were deleted.", id="2")
        await done(browser, "/dead-letters/purge", "39 were deleted.", model="fraud", version="B", state="parked")
        await done(browser, "/dead-letters/purge", "id: 'x' is no whole number", id="x")

        silent = re.findall(r'name="id" value="(\d+)"', await shown(browser, "/alarms"))[0]
        await done(
            browser, "/alarms/acknowledge", "You are on record as knowing of shadow_silent B", id=silent, note="mine"
        )
        await done(browser, "/alarms/acknowledge", "Somebody knew of that already.", id=silent)
        await done(browser, "/alarms/acknowledge", "no alarm 999 is on", id="999")
        await shown(browser, "/alarms", "the web page knows of it", "mine")


async def test_a_viewer_sees_every_page_and_no_button_that_works(world: str) -> None:
    viewer = await issued(world, "dashboards", "viewer")
    pages = ("", "models/fraud", "flags/fraud.A", "rollouts/1", "dead-letters", "dead-letters/1", "alarms", "system")
    async with browsing(world, viewer, auth="tokens", flag_check_interval=0.1) as browser:
        disabled = 0
        for page in pages:
            source = await shown(browser, f"/{page}", "dashboards · viewer")
            posting = re.findall(r'<form[^>]*method="post" action="([^"]*)"', source)
            disabled += source.count('disabled title="needs an operator\'s token"')
            forms = [form for form in posting if form not in {"/ui/theme", "/ui/sign-out"}]
            assert forms == (["/ui/dead-letters/retry"] if page == "dead-letters/1" else []), page
        assert disabled >= 15
        answer = await browser.post("/rollouts/1/abort")
        assert (answer.status_code, "needs operator" in text(answer)) == (403, True)
        await shown(browser, "/rollouts/1", "running")


async def test_promotions_are_read_with_who_took_them_back_and_live_counts_with_when_they_began(
    world: str,
) -> None:
    async with opened(world) as engine:
        promotions = PostgresPromotions(engine)
        history = await promotions.history("summary", before=None, most=10)
        assert [(line.version, line.previous, line.stands, line.rolled_back_by) for line in history] == [
            ("v3", "v2", False, "cy"),
            ("v2", "v1", True, ""),
        ]
        assert history[0].rolled_back_at is not None
        assert history[0].rolled_back_at > history[0].at > history[1].at
        assert await promotions.history("summary", before=history[0].id, most=10) == history[1:]
        assert {model: line.version for model, line in (await promotions.standing()).items()} == {
            "summary": "v2",
            "fraud": "A",
        }
        figures = PostgresLiveFigures(engine)
        reading = await figures.reading()
        assert sum(counts.requests for counts in reading.counts.values()) == 48_211 + 2_561 + 901
        assert all(reading.at > began for began in reading.began.values())
        assert await figures.now() >= reading.at
