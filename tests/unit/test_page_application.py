"""What holds for every page: who is let in, what is refused, and what keeps other sites out."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any, cast

import httpx
import pytest
from starlette.routing import Route
from test_doorkeeper import OPERATORS, VIEWERS, Place, watching

from multishadow_server.core.access import Role
from multishadow_server.entrypoints import permissions
from multishadow_server.entrypoints.authorisation import HttpAuthorisation
from multishadow_server.entrypoints.http import application
from multishadow_server.entrypoints.web import application as web
from multishadow_server.entrypoints.web import flash
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import SECTIONS, Pages
from multishadow_server.entrypoints.web.paths import FILES, static_path
from multishadow_server.entrypoints.web.signing_in import TOKEN_COOKIE
from multishadow_server.errors import StoreUnavailable
from multishadow_server.service.ports import AuditLine, AuditQuery
from multishadow_server.service.refusals import MOST_IN_A_WINDOW

PEER = ("198.51.100.7", 40_000)
OURS = "http://control:50053"
FOREIGN = {"origin": "https://evil.example"}


@cache
def rendering(*, tokens: bool) -> Pages:
    """Shared by all tests: templates are compiled once."""
    return Pages(tokens=tokens)


class Log:
    """An AuditLog of one line; `fault` is raised instead."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    async def lines(self, query: AuditQuery) -> Sequence[AuditLine]:
        if self.fault is not None:
            raise self.fault
        detail = {"reason": "<script>alert(1)</script>"}
        return [AuditLine(id=7, at=0.0, actor="ann", action="promote", subject="fraud.A", detail=detail)]


class Letters:
    """As much of a LetterStore as asking for another attempt needs."""

    def __init__(self) -> None:
        self.retried_by: list[str] = []

    async def retry(self, which: object, *, retry: str, actor: str) -> tuple[int, int]:
        del which, retry
        self.retried_by.append(actor)
        return 3, 1


class Site:
    """The page as control serves it, with as much behind it as these tests need."""

    def __init__(self, place: Place | None, *, hosts: Sequence[str] = ()) -> None:
        self.log, self.letters = Log(), Letters()
        ports: dict[str, Any] = dict.fromkeys(Desk.__dataclass_fields__, None)
        ports |= {"audit": self.log, "dead_letters": self.letters, "clock": lambda: 0.0, "warnings": tuple}
        pages = rendering(tokens=place is not None)
        doorkeeper = place.doorkeeper if place else None
        self.app: Any = application(web.routes(Desk(**ports), pages, doorkeeper=doorkeeper, hosts=hosts))
        if doorkeeper is not None:
            self.app = HttpAuthorisation(self.app, doorkeeper, flags_open=False, page=partial(web.refusal, pages))

    def browser(self, token: str = "", base: str = OURS, **headers: str) -> httpx.AsyncClient:
        """A browser that is signed in with a token, or is not."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=PEER),
            base_url=base,
            cookies={TOKEN_COOKIE: token} if token else {},
            headers=headers,
        )


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Site, Place]]:
    place = Place()
    async with watching(place):
        yield Site(place), place


def said(response: httpx.Response) -> str:
    """The page's text, without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", response.text))


def notice(response: httpx.Response) -> list[str]:
    """What the next page will say."""
    request = httpx.Request("GET", OURS, cookies=dict(response.cookies))
    found, _ = flash.taken(cast("Any", _Cookies(request)))
    return [each.text for each in found]


class _Cookies:
    def __init__(self, request: httpx.Request) -> None:
        name, _, value = request.headers.get("cookie", "").partition("=")
        self.cookies = {name: value.strip('"')}


# --- signing in ---------------------------------------------------------------------------------------------------


async def test_who_is_not_signed_in_is_led_to_where_they_can_and_back_to_where_they_wanted_to_be() -> None:
    async with guarded() as (site, _), site.browser() as browser:
        led = await browser.get("/ui/audit?actor=ann")
        assert led.status_code == 303
        assert led.headers["location"] == "/ui/sign-in?then=%2Fui%2Faudit%3Factor%3Dann"
        form = await browser.get(led.headers["location"])
        assert 'name="then" value="/ui/audit?actor=ann"' in form.text
        signed_in = await browser.post("/ui/sign-in", data={"token": f" {VIEWERS} ", "then": "/ui/audit?actor=ann"})
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/ui/audit?actor=ann")
        page = await browser.get("/ui/audit")
        assert "dashboards · viewer" in said(page)


async def test_the_token_is_kept_where_no_script_reads_it_and_goes_nowhere_but_to_the_page() -> None:
    async with guarded() as (site, _), site.browser() as browser:
        over_http = await browser.post("/ui/sign-in", data={"token": VIEWERS})
        behind_tls = await browser.post(
            "/ui/sign-in", data={"token": VIEWERS}, headers={"origin": "https://control:50053"}
        )
        signed_out = await browser.post("/ui/sign-out")
        assert (await browser.get("/ui/audit")).status_code == 303
    kept = {part.strip().lower() for part in over_http.headers["set-cookie"].split(";")[1:]}
    assert kept == {"httponly", "max-age=43200", "path=/ui", "samesite=lax"}
    assert "; Secure" in behind_tls.headers["set-cookie"]
    assert 'multishadow_token=""' in signed_out.headers["set-cookie"]
    assert notice(signed_out) == ["You are signed out."]


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/ui/\\evil.example",
        "/ui//evil.example",
        "javascript:alert(1)",
        "/uievil",
        "",
        "ui/audit",
    ],
)
async def test_signing_in_leads_to_no_other_site(then: str) -> None:
    async with guarded() as (site, _), site.browser() as browser:
        signed_in = await browser.post("/ui/sign-in", data={"token": VIEWERS, "then": then})
        form = await browser.get("/ui/sign-in", params={"then": then})
        themed = await browser.post("/ui/theme", data={"theme": "dark", "back": then})
    assert signed_in.headers["location"] == "/ui/"
    assert 'name="then" value="/ui/"' in form.text
    assert themed.headers["location"] == "/ui/"


async def test_a_bad_token_is_told_so_and_who_guesses_on_is_told_to_wait_while_a_good_one_still_opens() -> None:
    async with guarded() as (site, _), site.browser() as browser:
        first = await browser.post("/ui/sign-in", data={"token": "guess"})
        assert (first.status_code, "no token of multishadow" in said(first)) == (401, True)
        for _ in range(MOST_IN_A_WINDOW):
            last = await browser.post("/ui/sign-in", data={"token": "guess"})
        assert (last.status_code, last.headers["retry-after"]) == (429, "60")
        assert "refused too often" in said(last)
        assert (await browser.post("/ui/sign-in", data={"token": VIEWERS})).status_code == 303


async def test_bad_tokens_in_cookies_are_throttled_and_browsers_without_one_are_not() -> None:
    async with guarded() as (site, place):
        async with site.browser("ms_guess") as guesser:
            for _ in range(MOST_IN_A_WINDOW + 1):
                last = await guesser.get("/ui/")
        assert last.status_code == 429
        async with site.browser() as newcomer:
            assert (await newcomer.get("/ui/")).status_code == 303
        counted = place.doorkeeper.counters()
    assert counted["auth.unauthenticated"] == MOST_IN_A_WINDOW + 1


async def test_without_tokens_there_is_nothing_to_sign_in_to() -> None:
    async with Site(None).browser() as browser:
        assert (await browser.get("/ui/sign-in")).headers["location"] == "/ui/"
        page = await browser.get("/ui/audit")
    assert "no tokens" in said(page)
    assert "sign-out" not in page.text


# --- who may do what ----------------------------------------------------------------------------------------------


async def test_a_viewer_is_refused_on_a_page_that_says_who_they_are_and_what_it_takes() -> None:
    async with guarded() as (site, _), site.browser(VIEWERS) as browser:
        answer = await browser.post("/ui/dead-letters/retry", data={})
    assert answer.status_code == 403
    assert "dashboards is a token for the role viewer, and /ui/dead-letters/retry needs operator" in said(answer)
    assert "dashboards · viewer" in said(answer)
    assert site.letters.retried_by == []


async def test_an_operator_acts_in_their_own_name_and_is_told_what_came_of_it() -> None:
    async with guarded() as (site, _), site.browser(OPERATORS, **{"sec-fetch-site": "same-origin"}) as browser:
        answer = await browser.post("/ui/dead-letters/retry", data={"model": "fraud"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/dead-letters")
    assert notice(answer) == ["Workers try 3 once more now. 1 cannot be tried again."]
    assert site.letters.retried_by == ["ci-bot"]


async def test_without_tokens_the_page_is_on_record_as_who_acted() -> None:
    site = Site(None)
    async with site.browser() as browser:
        await browser.post("/ui/dead-letters/retry", data={})
    assert site.letters.retried_by == ["the web page"]


@pytest.mark.parametrize("action", ["dead-letters/retry", "sign-in", "sign-out", "theme"])
@pytest.mark.parametrize(
    "headers",
    [FOREIGN, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site", "origin": OURS}],
)
async def test_what_another_sites_page_sends_is_refused(action: str, headers: dict[str, str]) -> None:
    async with guarded() as (site, _), site.browser(OPERATORS, **headers) as browser:
        answer = await browser.post(f"/ui/{action}", data={"token": OPERATORS})
    assert answer.status_code == 403
    assert "another site's page" in said(answer)
    assert "set-cookie" not in answer.headers
    assert site.letters.retried_by == []


async def test_what_refreshes_itself_leads_to_signing_in_when_the_token_has_ended_and_back_to_its_page() -> None:
    async with guarded() as (site, _), site.browser() as browser:
        headers = {"hx-request": "true", "hx-current-url": f"{OURS}/ui/audit?actor=ann"}
        answer = await browser.get("/ui/audit?actor=ann", headers=headers)
    assert (answer.status_code, answer.text) == (401, "")
    assert answer.headers["hx-redirect"] == "/ui/sign-in?then=%2Fui%2Faudit%3Factor%3Dann"


async def test_what_refreshes_itself_leaves_notices_to_the_page_that_they_are_for() -> None:
    site = Site(None)
    async with site.browser() as browser:
        await browser.post("/ui/dead-letters/retry", data={})
        fragment = await browser.get("/ui/audit", headers={"hx-request": "true"})
        page = await browser.get("/ui/audit")
        again = await browser.get("/ui/audit")
    told = ["Workers try 3" in said(each) for each in (fragment, page, again)]
    assert told == [False, True, False]


def test_every_page_takes_a_viewer_and_every_change_an_operator() -> None:
    open_ones = {"/ui/sign-in", "/ui/sign-out", "/ui/theme"}
    pages = Pages(tokens=False)
    routes = [route for part in web.PARTS for route in part(pages, cast("Any", None)) if isinstance(route, Route)]
    assert len(routes) >= 20
    for route in routes:
        path = re.sub(r"\{[^}]*\}", "1", route.path)
        assert path not in open_ones
        for method in route.methods or ():
            expected = Role.VIEWER if method in {"GET", "HEAD"} else Role.OPERATOR
            assert permissions.of_path(path, method) is expected, (method, path)


def test_every_section_has_a_key_of_its_own() -> None:
    assert len({section.key for section in SECTIONS}) == len({section.path for section in SECTIONS}) == len(SECTIONS)


# --- what is sent -------------------------------------------------------------------------------------------------


async def test_every_answer_keeps_others_out_of_the_page_whatever_it_is() -> None:
    async with guarded() as (site, _), site.browser() as stranger, site.browser(VIEWERS) as viewer:
        answers = {
            "sign in": await stranger.get("/ui/sign-in"),
            "led there": await stranger.get("/ui/audit"),
            "page": await viewer.get("/ui/audit"),
            "missing": await viewer.get("/ui/nothing"),
            "refused": await viewer.post("/ui/dead-letters/retry"),
            "file": await stranger.get("/ui/static/page.css"),
        }
        site.log.fault = ZeroDivisionError("ours")
        answers["failed"] = await viewer.get("/ui/audit")
    assert [answer.status_code for answer in answers.values()] == [200, 303, 200, 404, 403, 200, 500]
    for name, answer in answers.items():
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, name
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get_list("cache-control") == ["no-store"]


async def test_a_page_that_fails_says_so_once_and_keeps_its_innards(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(None)
    site.log.fault = ZeroDivisionError("the innards")
    async with site.browser() as browser:
        answer = await browser.get("/ui/audit")
    assert answer.status_code == 500
    assert "control failed on this page; its log says why" in said(answer)
    assert "innards" not in answer.text
    assert [record.message for record in caplog.records] == ["GET /ui/audit failed"]


async def test_errors_of_ours_have_their_status_and_their_words() -> None:
    site = Site(None)
    site.log.fault = StoreUnavailable("PostgreSQL is away")
    async with site.browser() as browser:
        away = await browser.get("/ui/audit")
        wrong = await browser.get("/ui/audit?after=x")
        missing = await browser.get("/ui/nothing<b>")
        method = await browser.post("/ui/audit")
    assert (away.status_code, "PostgreSQL is away" in said(away)) == (503, True)
    assert (wrong.status_code, "after: 'x' is no number" in said(wrong)) == (400, True)
    assert (missing.status_code, "there is no page /ui/nothing<b>" in said(missing)) == (404, True)
    assert "<b>" not in missing.text
    assert method.status_code == 405


async def test_what_people_wrote_is_text_and_never_markup() -> None:
    async with Site(None).browser() as browser:
        page = await browser.get("/ui/audit", params={"actor": '"><script>alert(2)</script>'})
    assert "<script>alert" not in page.text
    assert "<script>alert(1)</script>" in said(page)


async def test_pages_answer_to_head() -> None:
    async with Site(None).browser() as browser:
        answer = await browser.head("/ui/audit")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_the_roots_lead_to_the_page() -> None:
    async with Site(None).browser() as browser:
        for path in ("/", "/ui"):
            led = await browser.get(path)
            assert (led.status_code, led.headers["location"]) == (303, "/ui/")


async def test_files_are_kept_for_good_by_the_digest_of_what_they_are_and_not_otherwise() -> None:
    async with Site(None).browser() as browser:
        for file in FILES.iterdir():
            kept = await browser.get(static_path(file.name))
            assert kept.status_code == 200
            assert kept.headers["cache-control"] == "public, max-age=31536000, immutable", file.name
        other_release = await browser.get("/ui/static/page.css?0123456789ab")
        missing = await browser.get("/ui/static/../pages.py?x")
    assert (other_release.status_code, other_release.headers["cache-control"]) == (200, "no-store")
    assert missing.status_code == 404


async def test_the_theme_is_kept_and_shown_and_nothing_else_can_be_put_there() -> None:
    async with Site(None).browser() as browser:
        dark = await browser.post("/ui/theme", data={"theme": "dark", "back": "/ui/audit?actor=ann"})
        assert dark.headers["location"] == "/ui/audit?actor=ann"
        assert 'data-theme="dark"' in (await browser.get("/ui/audit")).text
        await browser.post("/ui/theme", data={"theme": '"><script>'})
        assert 'data-theme="auto"' in (await browser.get("/ui/audit")).text


async def test_a_form_that_is_none_or_too_large_is_refused() -> None:
    site = Site(None)
    async with site.browser() as browser:
        none = await browser.post("/ui/sign-out", content=b"a")
        large = await browser.post("/ui/dead-letters/retry", content=b"model=" + bytes(70_000))
        odd = await browser.post("/ui/dead-letters/retry", content=b"state=odd")
    assert none.status_code == 303
    assert notice(large) == ["the form has over 65536 bytes; shorten what you wrote"]
    assert notice(odd) == ["state: 'odd' is none; allowed are waiting, parked, answered"]
    assert site.letters.retried_by == []


# --- names that lead here -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "status"),
    [
        ("http://127.0.0.1:50053", 200),
        ("http://[::1]:50053", 200),
        ("http://localhost:50053", 200),
        ("http://control:50053", 200),
        ("http://gpu-7.internal", 200),
        ("http://shadow.example.org", 200),
        ("http://evil.example:50053", 421),
        ("http://127.0.0.1.evil.example", 421),
        ("http://localhost.evil.example", 421),
        ("http://shadow.example.org.evil.example", 421),
    ],
)
async def test_without_tokens_no_name_of_another_site_leads_to_the_page(base: str, status: int) -> None:
    async with Site(None, hosts=["shadow.example.org"]).browser(base=base) as browser:
        answer = await browser.get("/ui/audit")
        changed = await browser.post("/ui/dead-letters/retry")
    assert answer.status_code == status
    assert changed.status_code == (303 if status == 200 else 421)
    assert ("MULTISHADOW_UI_HOSTS" in said(answer)) is (status == 421)


async def test_with_tokens_any_name_leads_to_it_since_the_cookie_is_the_names_own() -> None:
    async with guarded() as (site, _), site.browser(VIEWERS, base="http://shadow.example.org") as browser:
        assert (await browser.get("/ui/audit")).status_code == 200
