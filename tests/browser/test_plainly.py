"""The page in a browser that runs no scripts, in the hands of somebody who may only look."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from browsing import visitor
from page_system import PageSystem
from page_walk import NOTHING_TO_DO, OWN, Walk, kinds_of_changes
from store_fixtures import rows

pytestmark = pytest.mark.asyncio(loop_scope="session")
_CHANGES = """forms => forms.map(form => [
    new URL(form.action).pathname,
    [...form.elements].every(each => each.type !== 'submit' || each.disabled),
])"""
_CHARTS = """charts => charts.filter(each => !each.closest('figure, section').querySelector('table'))
    .map(each => each.closest('figure, section').outerHTML.slice(0, 160))"""
_FORGE = """path => {
    const form = Object.assign(document.createElement('form'), {method: 'post', action: path});
    document.body.append(form);
    form.submit();
}"""
# Something that is there, whatever a path is about.
_REAL = {"key": "spam.A", "model": "spam", "version": "A"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain:
    """What a page shows without scripts.

    Args:
        path: the page's, and `kind` its pattern.
        headings: how many there are of the first level.
        said: the text of its content.
        changes: paths of forms that change something, and whether all of their buttons are disabled.
        disabled: how many buttons are.
        bare_charts: charts that scripts draw, and that have no table beside them.
    """

    path: str
    kind: str
    headings: int
    said: str
    changes: dict[str, bool]
    disabled: int
    bare_charts: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain(browser: Browser, seen_system: PageSystem) -> AsyncIterator[list[Plain]]:
    """One page of each kind."""
    found: list[Plain] = []
    async with visitor(browser, seen_system, "viewer", expected={NOTHING_TO_DO}, java_script_enabled=False) as viewer:
        walk = Walk(visitor=viewer)

        async def look(page: Page, path: str, _before: int) -> None:
            forms = await page.eval_on_selector_all("form[method=post]", _CHANGES)
            found.append(
                Plain(
                    path=path,
                    kind=walk.kind(path),
                    headings=await page.get_by_role("heading", level=1).count(),
                    said=await page.get_by_role("main").inner_text(),
                    changes={action: disabled for action, disabled in forms if action not in OWN},
                    disabled=await page.locator("main button:disabled").count(),
                    bare_charts=await page.eval_on_selector_all("script[type='application/json']", _CHARTS),
                )
            )

        await walk.through(look)
    yield found


async def test_every_page_says_what_it_has_to_say_without_scripts(plain: list[Plain]) -> None:
    assert [each.path for each in plain if each.headings != 1] == []
    assert {each.path: each.said for each in plain if len(each.said) < 40} == {}
    assert {each.path: each.bare_charts for each in plain if each.bare_charts} == {}


async def test_every_change_is_shown_disabled_to_a_viewer(plain: list[Plain]) -> None:
    changes = {f"{each.path} → {action}": disabled for each in plain for action, disabled in each.changes.items()}
    assert [change for change, disabled in changes.items() if not disabled] == []
    assert sum(each.disabled for each in plain) > 10


async def test_a_change_that_a_viewer_forges_is_refused_by_a_page_that_says_so(
    browser: Browser, seen_system: PageSystem
) -> None:
    before = _changes_by_the_viewer(seen_system)
    async with visitor(browser, seen_system, "viewer", expected={403}) as viewer:
        page = await viewer.tab()
        for kind in kinds_of_changes():
            path = re.sub(r"\{(\w+)[^}]*\}", lambda found: _REAL.get(found[1], "1"), kind)
            async with page.expect_navigation():
                await page.evaluate(_FORGE, path)
            await expect(page.get_by_role("heading", level=1), path).to_contain_text("403")
            await expect(page.get_by_role("alert")).to_contain_text("operator")
    assert _changes_by_the_viewer(seen_system) == before == []


async def test_the_colours_are_chosen_without_scripts(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "viewer", java_script_enabled=False) as someone:
        page = await someone.tab()
        await page.get_by_label("Colours").select_option("dark")
        await page.get_by_role("button", name="Set").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def _changes_by_the_viewer(system: PageSystem) -> list[tuple[object, ...]]:
    return rows(system.database_url, "SELECT action, subject FROM audit_log WHERE actor LIKE '%viewer%'")
