"""What one page leaves with the browser for another: small values in cookies, which no link can set."""

from __future__ import annotations

import base64
import json

from starlette.requests import Request
from starlette.responses import Response

from multishadow_server.entrypoints.web.paths import UI


def leave(response: Response, name: str, said: object, *, seconds: int) -> None:
    """Leave a value, of what JSON knows, for so long."""
    noted = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
    response.set_cookie(name, noted, path=UI, max_age=seconds, httponly=True, samesite="strict")


def left(request: Request, name: str) -> object:
    """What was left; None where nothing was, or what is no value: anybody can send a cookie."""
    try:
        return json.loads(base64.urlsafe_b64decode(request.cookies.get(name, "")))
    except (ValueError, RecursionError):
        return None
