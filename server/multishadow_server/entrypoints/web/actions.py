"""Changes that are made from the page: forms in, use cases, and back to a page that says what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from multishadow_server.entrypoints import callers
from multishadow_server.entrypoints.web import flash
from multishadow_server.entrypoints.web.fields import natural
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import InvalidInput, MultishadowError, NotPermitted

MOST_FORM_BYTES = 64 << 10
# What the page itself changes; without tokens nobody said who they are.
ACTOR = "the web page"
SAME_ORIGIN = frozenset({"same-origin", "none"})

Act = Callable[[Mapping[str, str]], Awaitable[str]]


def actor() -> str:
    """Who is on record for a change that is made from the page."""
    return callers.actor("", otherwise=ACTOR)


def said(done: str, *more: str) -> str:
    """What was done, and what whoever did it should know, as one text."""
    return " ".join((done, *(each if each.endswith((".", "!", "?")) else f"{each}." for each in more)))


def check_origin(request: Request) -> None:
    """Raise NotPermitted when another site's page sent this: it would act with the rights of whoever looks at it.

    Browsers say so themselves in `Sec-Fetch-Site`, and older ones in `Origin`; who sends neither is no browser.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = (
        site not in SAME_ORIGIN if site is not None else origin is not None and _host(origin) != request.url.netloc
    )
    if foreign:
        raise NotPermitted("this came from another site's page, and changes are made from multishadow's own page only")


async def form_of(request: Request) -> Mapping[str, str]:
    """The fields of a form; of one that came several times, the last.

    Raises:
        InvalidInput: it is too large, or no form.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM_BYTES:
            raise InvalidInput(f"the form has over {MOST_FORM_BYTES} bytes; shorten what you wrote")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=200)
    except ValueError as error:
        raise InvalidInput(f"this is no form: {error}") from error
    return {name: values[-1] for name, values in fields.items()}


def shown_number(fields: Mapping[str, str], name: str) -> int:
    """A number that the form was made with: what somebody saw when they decided. Raises InvalidInput: there is none."""
    found = natural(fields.get(name, ""))
    if found is None:
        raise InvalidInput(f"{name}: the form does not say what it was made for; open its page again")
    return found


async def act(request: Request, change: Act, *, back: str) -> Response:
    """Make a change, and go back to a page that says what it came to, or why it was not made.

    Args:
        request: the form's.
        change: makes it of the form's fields; returns what to say.
        back: where to go then; a path of the page.
    """
    check_origin(request)
    response = RedirectResponse(back if back.startswith(f"{UI}/") else f"{UI}/", status_code=303)
    try:
        said = await change(await form_of(request))
    except MultishadowError as error:
        flash.leave(response, "failed", str(error))
    else:
        flash.leave(response, "done", said)
    return response


def _host(origin: str) -> str:
    return urlsplit(origin).netloc
