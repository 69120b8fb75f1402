"""What an action came to, said on the page that follows it: kept in a cookie until then."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

from starlette.requests import Request
from starlette.responses import Response

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
    noted = json.dumps([kind, text[:LONGEST]]).encode()
    response.set_cookie(
        COOKIE, base64.urlsafe_b64encode(noted).decode(), path=UI, max_age=60, httponly=True, samesite="strict"
    )


def taken(request: Request) -> tuple[Sequence[Notice], Callable[[Response], None]]:
    """What is to be said, and what makes sure that it is said once."""
    noted = request.cookies.get(COOKIE)
    if noted is None:
        return (), lambda _: None
    return _read(noted), lambda response: response.delete_cookie(COOKIE, path=UI)


def _read(noted: str) -> Sequence[Notice]:
    """Nothing where it is no notice: anybody can send a cookie."""
    try:
        kind, text = json.loads(base64.urlsafe_b64decode(noted))
    except (ValueError, TypeError, binascii.Error):
        return ()
    known = kind in {"done", "failed"} and isinstance(text, str)
    return (Notice(cast("Kind", kind), text),) if known else ()
