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
        page = await someone.tab("/ui/flags?model=spam")
        await expect(page).to_have_title("Sign in · multishadow")
        await expect(page.get_by_label("Token")).to_be_focused()
        await page.keyboard.type(seen_system.tokens["viewer"])
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{seen_system.url}/ui/flags?model=spam")
        await expect(page.get_by_role("banner")).to_contain_text("the-viewer · viewer")


async def test_a_wrong_token_is_refused_and_never_shown(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, expected={401}) as someone:
        page = await someone.tab("/ui/sign-in")
        await page.get_by_label("Token").fill("ms_aaaaaaaa_not-a-token")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("token")
        await expect(page.get_by_label("Token")).to_be_empty()
        assert "not-a-token" not in await page.content()
        assert await someone.context.cookies() == []


async def test_who_signed_out_is_out_in_every_tab(browser: Browser, seen_system: PageSystem) -> None:
    async with visitor(browser, seen_system, "viewer") as someone:
        page, other = await someone.tab(), await someone.tab()
        (kept,) = [each for each in await someone.context.cookies() if each["name"] == "multishadow_token"]
        assert (kept["httpOnly"], kept["sameSite"], kept["path"]) == (True, "Lax", "/ui")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("status")).to_have_text("You are signed out.")
        await other.reload()
        await expect(other).to_have_title("Sign in · multishadow")
        await page.go_back()
        await page.reload()
        await expect(page).to_have_title("Sign in · multishadow")
