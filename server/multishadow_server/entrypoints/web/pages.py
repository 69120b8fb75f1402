"""Rendering a page: the templates, and what all of them show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from multishadow_server.core.access import Role
from multishadow_server.entrypoints import callers
from multishadow_server.entrypoints.web import flash, wording
from multishadow_server.entrypoints.web.paths import UI, static_path

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "multishadow_theme"
FRAGMENT_HEADER = "hx-request"

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A place of the page that the navigation leads to.

    Args:
        name: as shown.
        path: where it begins, below UI; empty is the first page.
        key: leads there from the keyboard, after a `g`.
    """

    name: str
    path: str
    key: str


SECTIONS: Sequence[Section] = (
    Section(name="Models", path="", key="m"),
    Section(name="Experiments", path="experiments", key="e"),
    Section(name="Flags", path="flags", key="f"),
    Section(name="Rollouts", path="rollouts", key="r"),
    Section(name="Reports", path="reports", key="w"),
    Section(name="Dead letters", path="dead-letters", key="d"),
    Section(name="Alarms", path="alarms", key="a"),
    Section(name="Audit", path="audit", key="u"),
    Section(name="System", path="system", key="s"),
)


class Pages:
    """Renders templates, each escaped and with nothing undefined.

    Args:
        tokens: whether control needs tokens: then there is somebody to sign out.
    """

    def __init__(self, *, tokens: bool) -> None:
        self._tokens = tokens
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(wording.FILTERS)
        self._templates.globals.update(ui=ui, static=static_path)

    def render(
        self, request: Request, template: str, *, status: int = 200, section: str = "", **values: object
    ) -> HTMLResponse:
        """A page of a template.

        Args:
            request: what asked for it.
            template: its file, such as `overview.html`; it extends `base.html`.
            status: of HTTP.
            section: the path of the section that the navigation marks.
            values: what the template shows.
        """
        # What refreshes itself would take a notice from the page that it is meant for.
        notices, response_cookies = ((), _nothing) if FRAGMENT_HEADER in request.headers else flash.taken(request)
        body = self._templates.get_template(template).render(
            **_shared(request, section, tokens=self._tokens), notices=notices, **values
        )
        response = HTMLResponse(body, status_code=status)
        response_cookies(response)
        return response


def here(request: Request) -> str:
    """The address that was asked for, from the path on."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def ui(*parts: object, **query: object) -> str:
    """A path of the page: each part quoted, empty values of the query left out."""
    path = "/".join([UI, *(quote(str(part), safe="") for part in parts)]) if parts else f"{UI}/"
    terms = [f"{quote(name)}={quote(str(value), safe='')}" for name, value in query.items() if value not in ("", None)]
    return f"{path}?{'&'.join(terms)}" if terms else path


def _nothing(_: Response) -> None:
    """No cookie changes."""


def may_change() -> bool:
    """Whether who looks may change anything: an operator, or anybody where no tokens are needed."""
    caller = callers.current.get()
    return caller is None or caller.role.includes(Role.OPERATOR)


def _shared(request: Request, section: str, *, tokens: bool) -> Mapping[str, Any]:
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return {
        "sections": SECTIONS,
        "section": section,
        "theme": theme if theme in THEMES else "auto",
        "tokens": tokens,
        "caller": callers.current.get(),
        "may_change": may_change(),
        "here": here(request),
    }
