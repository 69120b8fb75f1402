"""Signing in: a token, kept by the browser in a cookie that no script can read and no other site can send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core.access import Role
from multishadow_server.entrypoints.web import flash
from multishadow_server.entrypoints.web.actions import check_origin, form_of
from multishadow_server.entrypoints.web.pages import THEME_COOKIE, THEMES, Pages
from multishadow_server.entrypoints.web.paths import SIGN_IN, SIGN_OUT, THEME, UI
from multishadow_server.errors import MultishadowError
from multishadow_server.service.doorkeeper import Doorkeeper

TOKEN_COOKIE = "multishadow_token"  # noqa: S105  its name, no token
LONGEST_SESSION = 12 * 3_600
THROTTLED = "this was refused too often within a minute; wait, and see that the token is right"
RETRY_AFTER = "60"
_A_YEAR = 365 * 86_400


def routes(pages: Pages, doorkeeper: Doorkeeper | None) -> Sequence[BaseRoute]:
    """`sign-in`, `sign-out` and `theme`. Without a doorkeeper there is nothing to sign in to."""

    async def sign_in(request: Request) -> Response:
        if doorkeeper is None:
            return RedirectResponse(f"{UI}/", status_code=303)
        if request.method != "POST":
            return pages.render(request, "sign_in.html", refusal="", then=_inside(request.query_params.get("then", "")))
        check_origin(request)
        fields = await form_of(request)
        token, then = fields.get("token", "").strip(), _inside(fields.get("then", ""))
        try:
            await doorkeeper.admit([f"Bearer {token}"], Role.VIEWER, to="the web page")
        except MultishadowError as error:
            peer = request.client.host if request.client else ""
            throttled = doorkeeper.note_refusal(peer, error, to="the web page")
            page = pages.render(
                request,
                "sign_in.html",
                status=429 if throttled else 401,
                refusal=THROTTLED if throttled else str(error),
                then=then,
            )
            page.headers.update({"retry-after": RETRY_AFTER} if throttled else {})
            return page
        response = RedirectResponse(then, status_code=303)
        response.set_cookie(
            TOKEN_COOKIE,
            token,
            path=UI,
            max_age=LONGEST_SESSION,
            httponly=True,
            # Not "strict": whoever follows a link to the page, out of a chat or an alarm, is signed in there. Nothing
            # is changed by a link, and what changes something is not taken from other sites (`check_origin`).
            samesite="lax",
            secure=_over_tls(request),
        )
        return response

    async def sign_out(request: Request) -> Response:
        check_origin(request)
        response = RedirectResponse(SIGN_IN, status_code=303)
        response.delete_cookie(TOKEN_COOKIE, path=UI)
        flash.leave(response, "done", "You are signed out.")
        return response

    async def theme(request: Request) -> Response:
        check_origin(request)
        fields = await form_of(request)
        response = RedirectResponse(_inside(fields.get("back", "")), status_code=303)
        chosen = fields.get("theme", "")
        response.set_cookie(
            THEME_COOKIE, chosen if chosen in THEMES else "auto", path=UI, max_age=_A_YEAR, samesite="strict"
        )
        return response

    return [
        Route(SIGN_IN, sign_in, methods=["GET", "POST"]),
        Route(SIGN_OUT, sign_out, methods=["POST"]),
        Route(THEME, theme, methods=["POST"]),
    ]


def token_of(cookies: Mapping[str, str]) -> str | None:
    """The token that a browser kept."""
    return cookies.get(TOKEN_COOKIE)


def _over_tls(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy before us: it says so itself with every form."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def _inside(path: str) -> str:
    """Where to go on: a path of the page, whatever was asked for; never another site."""
    return path if path.startswith(f"{UI}/") and "\\" not in path and "//" not in path else f"{UI}/"
