"""Every page: both themes, a phone's width, what is accessible, and nothing that fails or comes from elsewhere.

Pages are found by following links from the first one, so that a new one is covered as soon as a link leads there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import pytest
from playwright.async_api import Browser, Page

from browsing import SCREENSHOTS, visitor
from page_system import PageSystem
from page_walk import Walk, examine, examine_on_a_phone

# A machine that also runs other tests needs longer than the fifteen seconds that it takes by itself.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]
# So many pages of a kind are looked at closely; of the others, whether they fit on a phone.
CLOSELY = 1
# Answers of each kind look different.
MORE_CLOSELY = {"/ui/comparisons/{id}": 5}


async def test_every_page_fits_is_accessible_and_asks_nobody_else(
    browser: Browser, seen_system: PageSystem, record_property: Callable[[str, object], None]
) -> None:
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    wrong: dict[str, list[str]] = {}
    async with visitor(browser, seen_system, "operator") as someone:
        walk = Walk(visitor=someone, alike=2)

        async def look(page: Page, path: str, before: int) -> None:
            kind = walk.kind(path)
            if before < MORE_CLOSELY.get(kind, CLOSELY):
                name = re.sub(r"\W+", "-", kind.removeprefix("/ui/")).strip("-") or "first"
                found = await examine(page, f"{name}-{before}" if before else name, SCREENSHOTS)
            else:
                found = await examine_on_a_phone(page)
            if found:
                wrong[path] = found

        await walk.through(look)
    pictures = sorted(SCREENSHOTS.glob("*.png"))
    record_property("figures", f"{len(walk.seen)} pages seen; {len(pictures)} screenshots in {SCREENSHOTS}")
    assert wrong == {}
    assert walk.unseen() == [], "no link leads there"
