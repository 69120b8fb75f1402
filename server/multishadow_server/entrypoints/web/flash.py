"""What an action came to, said on the page that follows it: kept in a cookie until then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

from starlette.requests import Request
from starlette.responses import Response

from multishadow_server.entrypoints.web import keepsake
from multishadow_server.entrypoints.web.paths import UI

COOKIE = "multishadow_notice"
# Browsers keep 4 KiB of a cookie.
LONGEST = 2_000

Kind = Literal["done", "failed"]


class Notice(NamedTuple):
    """What is said: `done`, or why it `failed`."""

    kind: Kind
    text: str


def leave(response: Response, kind: Kind, text: str) -> None:
    """Say this on the next page."""
    keepsake.leave(response, COOKIE, [kind, text[:LONGEST]], seconds=60)


def taken(request: Request) -> tuple[Sequence[Notice], Callable[[Response], None]]:
    """What is to be said, and what makes sure that it is said once."""
    if COOKIE not in request.cookies:
        return (), lambda _: None
    return _read(keepsake.left(request, COOKIE)), lambda response: response.delete_cookie(COOKIE, path=UI)


def _read(said: object) -> Sequence[Notice]:
    """Nothing where it is no notice."""
    if not isinstance(said, list) or len(said) != 2:
        return ()
    kind, text = said
    known = isinstance(kind, str) and kind in {"done", "failed"} and isinstance(text, str)
    return (Notice(cast("Kind", kind), text),) if known else ()
