"""Who is let in, with a browser."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from browsing import visitor
from page_system import PageSystem

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_who_has_no_token_signs_in_first_and_gets_to_where_they_wanted(
    browser: Browser, seen_system: PageSystem
) -> None:
    async with visitor(browser, seen_system) as someone:
        page = await someone.tab("/ui/flags")
        await expect(page).to_have_title("Sign in · multishadow")
        await page.get_by_label("Token").fill(seen_system.tokens["viewer"])
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{seen_system.url}/ui/flags")
        await expect(page.get_by_role("banner")).to_contain_text("the-viewer")
