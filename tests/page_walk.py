"""Going through every page by the links of those before it, as people do, and what must be true of each.

Of pages of one kind (`/ui/flags/spam.A` and `/ui/flags/spam.B`) a few are seen: the rest are rows of a table.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urljoin, urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Error, Page
from starlette.routing import Route

from browsing import DESK, PHONE, Visitor
from multishadow_server.entrypoints.web import application, signing_in
from multishadow_server.entrypoints.web.desk import Desk
from multishadow_server.entrypoints.web.pages import Pages
from multishadow_server.entrypoints.web.paths import SIGN_IN, SIGN_OUT, STATIC, THEME

FIRST = "/ui/"
# What everybody may send: it changes nothing but what their own browser shows.
OWN = (SIGN_IN, SIGN_OUT, THEME)
# The status of a page that asks back whether to do something, where there is nothing to do.
NOTHING_TO_DO = 409
TABS = 3
STUCK_SECONDS = 90.0
LOOK_ONLY = ("color-contrast",)
_LINKS = "links => [...new Set(links.map(link => link.getAttribute('href')))]"
_OPEN = "all => all.forEach(each => { each.open = true })"
_WIDTHS = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
# What sticks out by itself: nothing around it scrolls or is cut.
_TOO_WIDE = """() => {
    const held = each => each !== document.body
        && (getComputedStyle(each).overflowX !== 'visible' || held(each.parentElement));
    return [...document.querySelectorAll('body *')]
        .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth
            && !held(each.parentElement))
        .slice(0, 5).map(each => each.outerHTML.slice(0, 160));
}"""
_FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_AXE = "options => axe.run(document, options).then(found => found.violations)"
# Everything that Tab reaches shows that it has the focus: by an outline of its own, or of what is around it.
_UNSEEN_FOCUS = """() => {
    const shows = each => {
        const style = getComputedStyle(each);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
    };
    const reached = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
        .filter(each => !each.disabled && each.type !== 'hidden' && each.checkVisibility({visibilityProperty: true}));
    const unseen = reached.filter(each => {
        each.focus({focusVisible: true, preventScroll: true});
        return document.activeElement !== each || !shows(each);
    });
    document.activeElement.blur();
    return unseen.map(each => each.outerHTML.slice(0, 160));
}"""

Look = Callable[[Page, str, int], Awaitable[None]]


def kinds_of_pages() -> list[str]:
    """The paths of all pages, as patterns such as `/ui/flags/{key}`; of those that links lead to who is signed in."""
    return [path for path in _paths("GET") if path not in OWN]


def kinds_of_changes() -> list[str]:
    """The paths of all changes, as patterns; signing out and the choice of colours are none."""
    return [path for path in _paths("POST") if path not in OWN]


def _paths(method: str) -> list[str]:
    desk = cast("Desk", _Nothing())
    pages = Pages(tokens=True)
    routes = [*signing_in.routes(pages, None), *(route for part in application.PARTS for route in part(pages, desk))]
    return [route.path for route in routes if isinstance(route, Route) and method in (route.methods or ())]


class _Nothing:
    """Stands for all that pages read, while nobody asks for one."""

    def __getattr__(self, _name: str) -> _Nothing:
        return self


@dataclass(kw_only=True, slots=True)
class Walk:
    """One walk through all pages.

    Args:
        visitor: who walks.
        kinds: patterns of paths, such as `/ui/flags/{key}`, by which pages are alike; see `kinds_of_pages`.
        alike: so many of one kind are opened, and of those that a query tells apart, such as filters of a list.
        seen: the paths that were looked at, in order.
    """

    visitor: Visitor
    kinds: Sequence[str] = field(default_factory=kinds_of_pages)
    alike: int = 1
    seen: list[str] = field(default_factory=list)
    _known: set[str] = field(default_factory=lambda: {FIRST})
    _found: Counter[tuple[str, ...]] = field(default_factory=Counter)
    _looked: Counter[str] = field(default_factory=Counter)

    async def through(self, look: Look) -> None:
        """Look at all pages, several at a time; `look` is told how many of the same kind were looked at before."""
        tabs: asyncio.Queue[Page] = asyncio.Queue()
        for _ in range(TABS):
            tabs.put_nowait(await self.visitor.tab(FIRST))

        async def visit(path: str) -> list[str]:
            page = await tabs.get()
            try:
                # A page whose script never ends answers nothing any more.
                async with asyncio.timeout(STUCK_SECONDS):
                    kind = self.kind(path)
                    self._looked[kind] += 1
                    if not await self._shows(page, path):
                        return []
                    links = [urljoin(path, link) for link in await page.eval_on_selector_all("a[href]", _LINKS)]
                    await look(page, path, self._looked[kind] - 1)
            except TimeoutError as error:
                raise AssertionError(f"{path} does not come to rest") from error
            finally:
                tabs.put_nowait(page)
            self.seen.append(path)
            return links

        ahead = [FIRST]
        while ahead:
            found = await asyncio.gather(*map(visit, ahead))
            ahead = [link for links in found for link in links if self._is_new(link)]
        while not tabs.empty():
            await tabs.get_nowait().close()

    async def _shows(self, page: Page, path: str) -> bool:
        """Whether it is a page; a file is offered to be kept instead."""
        try:
            await page.goto(self.visitor.url + path)
        except Error as error:
            if "Download is starting" not in error.message:
                raise
            return False
        return True

    def unseen(self) -> list[str]:
        """Kinds of pages that no link leads to."""
        return [kind for kind in self.kinds if not self._looked[kind]]

    def kinds_seen(self) -> set[str]:
        """Kinds of pages that links lead to."""
        return {kind for kind in self.kinds if self._looked[kind]}

    def kind(self, path: str) -> str:
        """The pattern that a path fits; the path itself where none does."""
        bare = urlsplit(path).path
        return next((kind for kind in self.kinds if _pattern(kind).fullmatch(bare)), bare)

    def _is_new(self, link: str) -> bool:
        parts = urlsplit(link)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if parts.netloc or not path.startswith(FIRST) or path.startswith(f"{STATIC}/") or path in self._known:
            return False
        self._known.add(path)
        alike = (self.kind(path), *sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)))
        self._found[alike] += 1
        return self._found[alike] <= self.alike


def _pattern(kind: str) -> re.Pattern[str]:
    """Of a Starlette path: `{key}` is a segment, `{key:path}` any number of them."""
    parts = re.split(r"(\{[^}]+\})", kind)
    return re.compile(
        "".join((".+" if ":path" in part else "[^/]+") if part.startswith("{") else re.escape(part) for part in parts)
    )


async def examine(page: Page, name: str, folder: Path) -> list[str]:
    """Look at a page in light and dark and on a phone, and take pictures of it; returns what is wrong with it."""
    await page.set_viewport_size(DESK)
    await page.emulate_media(color_scheme="light")
    await page.screenshot(path=folder / f"{name}-light.png", full_page=True)
    await page.eval_on_selector_all("details", _OPEN)
    await page.evaluate(_FRAME)
    await page.evaluate(AXE_SCRIPT)
    wrong = [*await violations(page), *await _focus(page, "light")]
    await page.emulate_media(color_scheme="dark")
    await page.evaluate(_FRAME)
    wrong += [*await violations(page, *LOOK_ONLY), *await _focus(page, "dark")]
    await page.screenshot(path=folder / f"{name}-dark.png", full_page=True)
    return [*wrong, *await examine_on_a_phone(page, name, folder)]


async def examine_on_a_phone(page: Page, name: str = "", folder: Path | None = None) -> list[str]:
    """See that nothing is too wide for a phone, with everything opened that can be; returns what is."""
    await page.set_viewport_size(PHONE)
    await page.emulate_media(color_scheme="light")
    await page.eval_on_selector_all("details", _OPEN)
    await page.evaluate(_FRAME)
    width, most = await page.evaluate(_WIDTHS)
    wrong = [f"on a phone it is {width} px wide, of {most}: {await page.evaluate(_TOO_WIDE)}"] if width > most else []
    if folder is not None:
        await page.screenshot(path=folder / f"{name}-phone.png", full_page=True)
    await page.set_viewport_size(DESK)
    return wrong


async def violations(page: Page, *rules: str) -> list[str]:
    """What axe finds not to be accessible, of these rules or all; its script was loaded into the page before."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = await page.evaluate(_AXE, options)
    return [
        f"{each['id']} ({each['impact']}): {each['help']}; {node['html'][:200]} {node['failureSummary'][:300]}"
        for each in found
        for node in each["nodes"][:3]
    ]


async def _focus(page: Page, theme: str) -> list[str]:
    return [f"in {theme}, nobody sees that this has the focus: {each}" for each in await page.evaluate(_UNSEEN_FOCUS)]
