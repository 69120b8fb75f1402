"""What a page leaves with the browser for another: anybody can send a cookie, and none of it may break a page."""

from __future__ import annotations

import base64

import pytest
from starlette.requests import Request
from starlette.responses import Response

from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.entrypoints.web import judged
from multishadow_server.entrypoints.web.judged import Judged

PAGE = "/ui/divergences/7"


def asking(cookie: str, *, page: str = PAGE) -> Request:
    """A request of a page, with this as the cookie that tells of a verdict."""
    headers = [(b"cookie", f"{judged.COOKIE}={cookie}".encode())]
    return Request({"type": "http", "method": "GET", "path": page, "query_string": b"", "headers": headers})


def sealed(said: str) -> str:
    return base64.urlsafe_b64encode(said.encode()).decode()


def test_a_verdict_is_told_on_its_own_page_alone() -> None:
    given = Judged(7, "A", ReviewVerdict.LIVE_BETTER, None, last=True)
    response = Response()
    judged.leave(response, given, at=PAGE)
    cookie = response.headers["set-cookie"].partition(";")[0].partition("=")[2].strip('"')
    assert judged.told(asking(cookie)) == given
    assert judged.told(asking(cookie, page="/ui/divergences/8")) is None


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "no base64 at all",
        sealed("no JSON"),
        sealed("null"),
        sealed('{"a": 1}'),
        sealed(f'["{PAGE}", 7, "A"]'),
        sealed(f'["{PAGE}", "seven", "A", "live better", null, false]'),
        sealed(f'["{PAGE}", null, "A", "live better", null, false]'),
        sealed(f'["{PAGE}", Infinity, "A", "live better", null, false]'),
        sealed(f'["{PAGE}", NaN, "A", "live better", null, false]'),
        sealed(f'["{PAGE}", 7, "A", "no verdict", null, false]'),
        sealed(f'["{PAGE}", 7, "A", "live better", {{}}, [], 7]'),
        sealed("[" * 40_000),
    ],
    ids=lambda cookie: cookie[:24],
)
def test_a_cookie_that_somebody_made_up_tells_nothing(cookie: str) -> None:
    assert judged.told(asking(cookie)) is None
