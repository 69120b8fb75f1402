"""What operators change from the page: each change is made by hand, and found in the store and on the page after it."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from browsing import Visitor, visitor
from page_system import PageSystem
from store_fixtures import rows

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_operator_pauses_a_rollout_by_keyboard(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator") as operator:
        page = await operator.tab("/ui/rollouts")
        await page.get_by_role("main").get_by_role("link").filter(has_text="1").first.click()
        await page.locator("summary", has_text="Pause").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.locator("details[open]").get_by_label("Why")).to_be_focused()
        await page.keyboard.type("lunch")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").first).to_be_visible()
        await expect(page.locator(".badge", has_text="paused")).to_be_visible()
        await expect(page.locator("summary", has_text="Resume")).to_be_visible()
    assert rows(seen_system.database_url, "SELECT state, changed_by FROM rollout") == [("paused", "the-operator")]


async def test_an_operator_reverts_a_flag_without_scripts(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator", java_script_enabled=False) as operator:
        page = await operator.tab("/ui/flags/orders.A")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("shadow 50 %")
        line = page.locator("ol.history > li").filter(has_text="ramp to 20 %")
        await line.locator("summary", has_text="Revert").click()
        await line.get_by_label("Why").fill("too much at once")
        await line.get_by_role("button", name="Revert").click()
        await expect(page.get_by_role("status").first).to_be_visible()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("shadow 20 %")
    found = rows(
        seen_system.database_url,
        "SELECT changed_by, reason FROM flag_revision WHERE key = 'orders.A' ORDER BY revision DESC LIMIT 1",
    )
    assert found[0][0] == "the-operator"
    assert "too much at once" in found[0][1]


async def test_an_operator_promotes_with_the_gates_say(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator") as operator:
        page = await operator.tab("/ui/models/search")
        await page.get_by_role("main").get_by_role("link", name="Experiment").first.click()
        await page.get_by_role("link", name="Gates").click()
        await page.get_by_role("link", name="Promote").click()
        await expect(page.get_by_role("main")).to_contain_text("divergence")
        await _promote(page, "it is better where it differs")
        await expect(page.get_by_role("alert")).to_contain_text("A was not promoted")
        assert _live_claim(seen_system) != "live"
        await page.goto(f"{operator.url}/ui/models/search")
        await page.get_by_role("main").get_by_role("link", name="Experiment").first.click()
        await page.get_by_role("link", name="Gates").click()
        await page.get_by_role("link", name="Promote").click()
        await page.get_by_label("Promote although").check()
        await _promote(page, "it is better where it differs")
        await expect(page.get_by_role("status").first).to_contain_text("A is live")
    assert _live_claim(seen_system) == "live"
    promoted = rows(
        seen_system.database_url, "SELECT actor FROM audit_log WHERE action = 'promote' AND subject LIKE 'search%'"
    )
    assert promoted == [("the-operator",)]


async def test_an_operator_reviews_divergent_answers_by_keyboard(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator") as operator:
        page = await _first_divergence(operator)
        title = page.get_by_role("heading", level=1)
        first = await title.inner_text()
        # Whoever is asked for it may look at the next one without judging, and come back.
        await _press(page, "n")
        await expect(title).not_to_have_text(first)
        await _press(page, "p")
        await expect(title).to_have_text(first)
        key = await page.locator(".verdicts [data-key]").first.get_attribute("data-key")
        await _press(page, str(key))
        await expect(page.get_by_role("status").first).to_contain_text("answer in comparison")
        await expect(title).not_to_have_text(first)
        assert len(_reviews(seen_system)) == 1
        await _press(page, "u")
        await expect(title).to_have_text(first)
        assert _reviews(seen_system) == []


async def test_an_operator_asks_both_versions_again(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator") as operator:
        page = await _first_divergence(operator)
        before = rows(seen_system.database_url, "SELECT sum(n) FROM rollup")
        await _press(page, "r")
        again = page.locator("#rerun")
        await expect(again.get_by_role("heading", name="What they answered")).to_be_visible()
        # The versions answer as they did: by the request's id.
        await expect(again.get_by_role("row").nth(1)).to_contain_text("base")
        assert rows(seen_system.database_url, "SELECT sum(n) FROM rollup") == before


async def _press(page: Page, key: str) -> None:
    """Press a key that leads elsewhere, and wait for the script that takes the next one."""
    async with page.expect_navigation(wait_until="load"):
        await page.keyboard.press(key)


async def _first_divergence(operator: Visitor) -> Page:
    """A tab with the first one of the list."""
    page = await operator.tab("/ui/experiments/1/divergences")
    path = await page.locator("a[href^='/ui/comparisons/']").first.get_attribute("href")
    await page.goto(f"{operator.url}{path}")
    return page


async def _promote(page: Page, reason: str) -> None:
    await page.get_by_label("Reason").fill(reason)
    await page.get_by_role("button", name="Promote A").click()


def _live_claim(system: PageSystem) -> str:
    """What search.A says where nobody is targeted."""
    ((found,),) = rows(
        system.database_url,
        "SELECT definition ->> 'defaultVariant' FROM flag_revision WHERE key = 'search.A' ORDER BY revision DESC "
        "LIMIT 1",
    )
    return str(found)


def _reviews(system: PageSystem) -> list[tuple[object, ...]]:
    return rows(system.database_url, "SELECT verdict FROM review")
