"""The verdict that somebody just gave, told on the page that follows, where it can be undone.

It is kept in a cookie, not in the page's address: a link that somebody else sends must not put up a button that changes
what people said.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from starlette.requests import Request
from starlette.responses import Response

from multishadow_server.core.reviews import ReviewVerdict
from multishadow_server.entrypoints.web import keepsake
from multishadow_server.entrypoints.web.pages import here

COOKIE = "multishadow_judged"
# Whoever looks at an answer for longer takes a verdict back on the page of its own comparison.
KEPT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict that can be undone.

    Args:
        comparison_id, version: on which answer.
        verdict: what it says.
        before: what was said before; empty: nothing.
        last: whether nothing comes after it in the list.
    """

    comparison_id: int
    version: str
    verdict: ReviewVerdict
    before: ReviewVerdict | None
    last: bool


def leave(response: Response, judged: Judged, *, at: str) -> None:
    """Tell of it on the page at this address: there alone, however often it is loaded."""
    keepsake.leave(response, COOKIE, [at, *astuple(judged)], seconds=KEPT_SECONDS)


def told(request: Request) -> Judged | None:
    """What is to be told on this page; None: nothing."""
    said = keepsake.left(request, COOKIE)
    if not isinstance(said, list) or len(said) != 6 or said[0] != here(request):
        return None
    _, number, version, verdict, before, last = said
    try:
        return Judged(
            int(number), str(version), ReviewVerdict(verdict), ReviewVerdict(before) if before else None, bool(last)
        )
    except (ValueError, TypeError, OverflowError):
        return None
