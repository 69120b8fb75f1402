"""The page's routes, and what holds for all of them: its headers, its errors, who is let in."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from multishadow_server.entrypoints.web import (
    alarms,
    audit,
    comparisons,
    dead_letters,
    divergences,
    experiment,
    experiment_changes,
    experiments,
    flags,
    models,
    overview,
    reports,
    rollouts,
    signing_in,
    system,
)
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import FRAGMENT_HEADER, Pages
from multishadow_server.entrypoints.web.paths import FILES, NAMES, SIGN_IN, STATIC, UI, static_path
from multishadow_server.errors import (
    Conflict,
    FailedPrecondition,
    InvalidInput,
    MultishadowError,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)
from multishadow_server.service.doorkeeper import Doorkeeper

# Each has `routes(pages, desk)`.
PARTS: Sequence[Callable[[Pages, Desk], Sequence[BaseRoute]]] = (
    overview.routes,
    models.routes,
    flags.routes,
    rollouts.routes,
    dead_letters.routes,
    alarms.routes,
    audit.routes,
    system.routes,
    experiments.routes,
    experiment.routes,
    experiment_changes.routes,
    divergences.routes,
    comparisons.routes,
    reports.routes,
)

# Scripts and everything else come from here alone; pictures carry their sizes in style attributes.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_NEVER_STORED = (b"cache-control", b"no-store")
_FOR_GOOD = (b"cache-control", b"public, max-age=31536000, immutable")
_STATUSES: Sequence[tuple[type[MultishadowError], int]] = (
    (InvalidInput, 400),
    (NotAuthenticated, 401),
    (NotPermitted, 403),
    (NotFound, 404),
    (Conflict, 409),
    (FailedPrecondition, 409),
    (Unavailable, 503),
)
# What nobody outside can own a name under.
_OWN_ENDINGS = (".localhost", ".local", ".internal")

_log = logging.getLogger(__name__)


def routes(desk: Desk, pages: Pages, *, doorkeeper: Doorkeeper | None, hosts: Sequence[str]) -> Sequence[BaseRoute]:
    """The page under `/ui/`; `/` leads there.

    Args:
        desk: what it reads and changes.
        pages: renders it.
        doorkeeper: lets in by tokens; None where nobody needs one.
        hosts: names by which browsers may reach it where nobody needs a token, beside addresses and short names.
    """

    async def lead_there(_: Request) -> Response:
        return RedirectResponse(f"{UI}/", status_code=303)

    failures = _Failures(pages)
    application = Starlette(
        routes=[
            *signing_in.routes(pages, doorkeeper),
            *(route for part in PARTS for route in part(pages, desk)),
            Mount(STATIC, StaticFiles(directory=FILES)),
        ],
        exception_handlers={MultishadowError: failures.known, HTTPException: failures.of_http},
        middleware=[
            Middleware(_Unforeseen, failures=failures),
            *(() if doorkeeper else (Middleware(_OwnHosts, hosts=hosts, refuse=failures.of_host),)),
        ],
    )
    return [Route("/", lead_there), Route(UI, lead_there), _Whole(_Headers(application))]


def refusal(pages: Pages, request: Request, error: MultishadowError) -> Response:
    """What somebody sees who is not let in: where to sign in, or why not."""
    response = _refused(pages, request, error)
    # It is made before the page's own application is reached, which adds these to everything else.
    response.raw_headers.extend((*SECURITY_HEADERS, _NEVER_STORED))
    return response


def _refused(pages: Pages, request: Request, error: MultishadowError) -> Response:
    if isinstance(error, NotAuthenticated):
        if FRAGMENT_HEADER in request.headers:
            # What refreshes itself is part of a page, and that page is where to come back to.
            page = urlsplit(request.headers.get("hx-current-url", ""))
            return Response(status_code=401, headers={"hx-redirect": _sign_in(page.path, page.query)})
        if request.method in {"GET", "HEAD"}:
            return RedirectResponse(_sign_in(request.url.path, request.url.query), status_code=303)
    return _Failures(pages).shown(request, error)


def _sign_in(path: str, query: str) -> str:
    then = f"{path}?{query}" if query else path
    return f"{SIGN_IN}?then={quote(then, safe='')}"


class _Whole(Mount):
    """Everything under UI, with the whole path left to the application: its routes are written as people see them."""

    def __init__(self, application: ASGIApp) -> None:
        super().__init__(UI, app=application)

    def matches(self, scope: Scope) -> tuple[Any, Scope]:
        match, _ = super().matches(scope)
        return match, {"endpoint": self.app}


class _Failures:
    """Pages that say what went wrong."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def shown(self, request: Request, error: MultishadowError) -> Response:
        """A page of an error of ours."""
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
        return self._page(request, status, str(error))

    async def known(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, MultishadowError):
            raise error
        return self.shown(request, error)

    async def of_http(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        said = f"there is no page {request.url.path}" if status == HTTPStatus.NOT_FOUND else HTTPStatus(status).phrase
        return self._page(request, status, said)

    def unforeseen(self, request: Request) -> Response:
        return self._page(request, 500, "control failed on this page; its log says why")

    def of_host(self, request: Request) -> Response:
        return self._page(
            request,
            421,
            f'the page is not served as "{request.url.hostname}" while nobody needs a token: another site could lead '
            "your browser here by a name of its own. Open it by its address, name the host in MULTISHADOW_UI_HOSTS, or "
            "set MULTISHADOW_AUTH=tokens",
        )

    def _page(self, request: Request, status: int, said: str) -> Response:
        return self._pages.render(
            request, "failure.html", status=status, said=said, phrase=HTTPStatus(status).phrase, code=status
        )


class _Unforeseen:
    """Logs what nobody foresaw, and shows a page: Starlette's own handler would raise it on, to be logged again."""

    def __init__(self, app: ASGIApp, *, failures: _Failures) -> None:
        self._app = app
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            if begun:
                raise
            request = Request(scope)
            _log.exception("%s %s failed", request.method, request.url.path)
            await self._failures.unforeseen(request)(scope, receive, send)


class _Headers:
    """Adds to every answer what keeps others out of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = _is_this_release(str(scope["path"]), scope["query_string"])

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                good = kept and message["status"] == HTTPStatus.OK
                headers = [(name, value) for name, value in message["headers"] if name != b"cache-control"]
                message["headers"] = [*headers, *SECURITY_HEADERS, _FOR_GOOD if good else _NEVER_STORED]
            await send(message)

        await self._app(scope, receive, send_on)


def _is_this_release(path: str, query: bytes) -> bool:
    """Whether a static file is asked for by the digest of what it is here: only then may it be kept for good.

    While releases are exchanged, a page of one control asks another for its files.
    """
    name = path.removeprefix(f"{STATIC}/")
    return name != path and name in NAMES and static_path(name) == f"{path}?{query.decode('latin-1')}"


class _OwnHosts:
    """Without tokens, the page is served by an address or a name of one's own only.

    Otherwise another site could give its own name this address, and read the page as its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], refuse: Callable[[Request], Response]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if scope["type"] == "http" and not self._is_own(request.url.hostname or ""):
            await self._refuse(request)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, name: str) -> bool:
        if name in self._hosts or "." not in name or name.endswith(_OWN_ENDINGS):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
