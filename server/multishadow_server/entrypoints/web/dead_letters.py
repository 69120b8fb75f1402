"""Dead letters: how many there are of whom, one with its payload, another attempt, deletion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from multishadow_server.core.dead_letters import LetterState
from multishadow_server.entrypoints.web import fields, paging
from multishadow_server.entrypoints.web.actions import act, actor
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.fields import Fields
from multishadow_server.entrypoints.web.pages import Pages, ui
from multishadow_server.entrypoints.web.paging import Paged
from multishadow_server.entrypoints.web.paths import UI
from multishadow_server.errors import InvalidInput
from multishadow_server.service import dead_letters as use_cases
from multishadow_server.service.ports import LetterFilter, LetterLine

SECTION = "dead-letters"
SHOWN_BYTES = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class CountLine:
    """How many dead letters a version has, by state; no model and version is of messages that nobody can read."""

    model: str
    version: str
    waiting: int
    parked: int
    answered: int


def counted(counts: Mapping[tuple[str, str, LetterState], int]) -> tuple[CountLine, ...]:
    """A line for each version, by name."""
    by_version: dict[tuple[str, str], Counter[LetterState]] = {}
    for (model, version, state), count in counts.items():
        by_version.setdefault((model, version), Counter())[state] += count
    return tuple(
        CountLine(
            model=model,
            version=version,
            waiting=states[LetterState.WAITING],
            parked=states[LetterState.PARKED],
            answered=states[LetterState.ANSWERED],
        )
        for (model, version), states in sorted(by_version.items())
    )


def printable(payload: bytes, *, most: int = SHOWN_BYTES) -> str:
    """Bytes for people: text as it is, everything else escaped; cut where it is long."""
    text = payload[:most].decode(errors="backslashreplace")
    shown = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
    return f"{shown}…" if len(payload) > most else shown


def filter_of(said: Mapping[str, str]) -> LetterFilter:
    """The filter of a query or a form. Raises InvalidInput: there is no such state."""
    state = said.get("state", "")
    try:
        return LetterFilter(
            model=said.get("model", ""), version=said.get("version", ""), state=LetterState(state) if state else None
        )
    except ValueError:
        raise InvalidInput(f"state: {state[:40]!r} is none; allowed are {', '.join(LetterState)}") from None


def as_query(which: LetterFilter) -> Mapping[str, str]:
    """The filter as the fields of a query."""
    return {"model": which.model, "version": which.version, "state": which.state or ""}


def _paged(found: use_cases.Page, *, first: bool) -> Paged[LetterLine]:
    return Paged(items=found.letters, after=str(found.next_before or ""), first=first)


def routes(pages: Pages, desk: Desk) -> Sequence[BaseRoute]:
    """`/ui/dead-letters` and `/ui/dead-letters/{id}`."""
    page = _DeadLetterPages(pages, desk)
    return [
        Route(f"{UI}/dead-letters", page.listed),
        Route(f"{UI}/dead-letters/{{id:int}}", page.show),
        Route(f"{UI}/dead-letters/retry", page.retry, methods=["POST"]),
        Route(f"{UI}/dead-letters/purge", page.purge, methods=["POST"]),
    ]


class _DeadLetterPages:
    def __init__(self, pages: Pages, desk: Desk) -> None:
        self._pages = pages
        self._desk = desk

    async def listed(self, request: Request) -> Response:
        store, which, before = self._desk.dead_letters, filter_of(request.query_params), paging.number_after(request)
        found = await use_cases.page(store, which, before=before or 0, size=paging.PAGE)
        return self._pages.render(
            request,
            "dead_letters.html",
            section=SECTION,
            counts=counted(await use_cases.counts(store, LetterFilter())),
            letters=_paged(found, first=before is None),
            chosen=as_query(which),
            states=tuple(LetterState),
        )

    async def show(self, request: Request) -> Response:
        letter = await use_cases.letter(self._desk.dead_letters, int(request.path_params["id"]))
        capture = letter.capture
        request_bytes = letter.raw if capture is None else capture.request
        return self._pages.render(
            request,
            "dead_letter.html",
            section=SECTION,
            letter=letter,
            line=letter.line,
            request_bytes=len(request_bytes),
            request_text=printable(request_bytes),
            response_bytes=0 if capture is None else len(capture.response),
            response_text="" if capture is None else printable(capture.response),
        )

    async def retry(self, request: Request) -> Response:
        async def change(said: Fields) -> str:
            retry = await use_cases.retry(self._desk.dead_letters, _which(said), actor=actor())
            impossible = f" {retry.impossible:,} cannot be tried again." if retry.impossible else ""
            return f"Workers try {retry.count:,} once more now.{impossible}"

        return await act(request, change, back=ui("dead-letters"))

    async def purge(self, request: Request) -> Response:
        async def change(said: Fields) -> str:
            gone, more = await use_cases.purge(self._desk.dead_letters, _which(said), actor=actor())
            return f"{gone:,} were deleted{'; there are more: delete again' if more else ''}."

        return await act(request, change, back=ui("dead-letters"))


def _which(said: Fields) -> LetterFilter:
    """One letter, or those of the filter that the page showed."""
    one = fields.whole(said, "id")
    return replace(filter_of(said), ids=() if one is None else (one,))
