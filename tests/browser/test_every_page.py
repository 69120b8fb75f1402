"""Every page: both themes, a phone's width, what is accessible, and nothing that fails or comes from elsewhere.

Pages are found by following links from the first one, so that a new one is covered as soon as a link leads there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.async_api import Browser, Page, expect

from browsing import SCREENSHOTS, visitor
from page_system import PageSystem
from page_traffic import MODELS
from page_walk import NOTHING_TO_DO, Walk, examine, examine_on_a_phone
from store_fixtures import rows

# A machine that also runs other tests needs longer than the fifteen seconds that it takes by itself.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]
_OF_MODEL = """
    SELECT min(comparison.id) FROM comparison
    JOIN epoch ON epoch.id = epoch_id JOIN experiment ON experiment.id = experiment_id
    WHERE model = '{}' AND kept_because = 'diverged'
"""


async def test_every_page_fits_is_accessible_and_asks_nobody_else(
    browser: Browser, seen_system: PageSystem, record_property: Callable[[str, object], None]
) -> None:
    wrong: dict[str, list[str]] = {}
    async with visitor(browser, seen_system, "operator", expected={NOTHING_TO_DO}) as someone:
        walk = Walk(visitor=someone)

        async def look(page: Page, path: str, before: int) -> None:
            if before:
                found = await examine_on_a_phone(page)
            else:
                found = await examine(page, _named(walk.kind(path)), SCREENSHOTS)
            if found:
                wrong[path] = found

        await walk.through(look)
    record_property("figures", f"{len(walk.seen)} pages of {len(walk.kinds)} kinds seen; pictures are in {SCREENSHOTS}")
    assert wrong == {}
    assert walk.unseen() == [], "no link leads there"


@pytest.mark.parametrize("model", [each.name for each in MODELS])
async def test_answers_of_every_kind_are_shown_side_by_side(
    browser: Browser, seen_system: PageSystem, model: str
) -> None:
    ((comparison,),) = rows(seen_system.database_url, _OF_MODEL.format(model))
    async with visitor(browser, seen_system, "viewer") as someone:
        page = await someone.tab(f"/ui/comparisons/{comparison}")
        await expect(page.get_by_role("heading", level=1)).to_contain_text(f"Comparison {comparison}")
        assert await examine(page, f"comparison-{model}", SCREENSHOTS) == []


async def test_signing_in_is_accessible(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system) as someone:
        assert await examine(await someone.tab("/ui/sign-in"), "sign-in", SCREENSHOTS) == []


def _named(kind: str) -> str:
    return re.sub(r"\W+", "-", kind.removeprefix("/ui/")).strip("-") or "first"
