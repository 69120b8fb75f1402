"""The page without a mouse."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from browsing import visitor
from page_system import PageSystem

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_first_tab_offers_to_skip_to_the_content(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator") as someone:
        page = await someone.tab()
        skip = page.get_by_role("link", name="Skip to content")
        assert not await _in_sight(page, "a.skip")
        await page.keyboard.press("Tab")
        await expect(skip).to_be_focused()
        assert await _in_sight(page, "a.skip")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_be_focused()
        await page.keyboard.press("Tab")
        assert await page.evaluate("() => document.activeElement.closest('main') !== null")


async def test_every_section_is_reached_and_opened_by_keyboard(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator") as someone:
        page = await someone.tab()
        sections = await page.get_by_role("navigation", name="Sections").get_by_role("link").all_inner_texts()
        for section in sections:
            await page.goto(f"{someone.url}/ui/")
            link = page.get_by_role("navigation", name="Sections").get_by_role("link", name=section, exact=True)
            await _tab_until_focused(page, section)
            await expect(link).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(page.locator("nav [aria-current=page]")).to_have_text(section)


async def test_the_colours_are_chosen_by_keyboard_and_kept(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "operator", color_scheme="light") as someone:
        page = await someone.tab()
        await page.get_by_label("Colours").focus()
        await page.keyboard.type("dark")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await expect(page.locator("html")).to_have_css("color-scheme", "dark")
        other = await someone.tab("/ui/flags")
        await expect(other.locator("html")).to_have_attribute("data-theme", "dark")


async def test_a_refresh_leaves_the_focus_where_it_was(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "viewer") as someone:
        page = await someone.tab("/ui/sign-in")
        await page.clock.install()
        await page.goto(f"{someone.url}/ui/")
        link = page.locator("[data-fresh] a").first
        await link.focus()
        for _ in range(2):
            await page.locator("[data-fresh]").first.evaluate("region => region.setAttribute('data-old', '')")
            await page.clock.fast_forward(10_000)
            # Another element stands in its place now.
            await page.locator("[data-fresh]:not([data-old])").first.wait_for()
            await expect(link).to_be_focused()


async def test_shortcuts_lead_to_sections_and_are_listed(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "viewer") as someone:
        page = await someone.tab()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text("Rollouts")
        await page.keyboard.press("Escape")
        await page.keyboard.press("g")
        await page.keyboard.press("r")
        await expect(page.locator("nav [aria-current=page]")).to_have_text("Rollouts")


async def _in_sight(page: Page, selector: str) -> bool:
    box = await page.locator(selector).bounding_box()
    return box is not None and box["width"] > 1 and box["height"] > 1


async def _tab_until_focused(page: Page, text: str) -> None:
    """Press Tab as often as it takes, within what a page has of stops."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("() => document.activeElement.innerText") == text:
            return
    raise AssertionError(f"Tab does not reach {text}")
