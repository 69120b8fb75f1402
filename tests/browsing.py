"""A real browser on the web page: Debian's Chromium, driven by Playwright, and what it must never do."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    Route,
    ViewportSize,
    async_playwright,
    expect,
)

from multishadow_server.adapters.embedded import EmbeddedPostgres
from page_system import PageSystem, page_system
from waiting import PATIENCE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).parent
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", ROOT / "browser" / "screenshots"))
DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE_MS = 1_000 * PATIENCE


@dataclass(kw_only=True)  # no slots: Playwright puts attributes of its own on who listens
class Visitor:
    """Somebody with a browser of their own: cookies, tabs, and everything that went wrong in them.

    Args:
        context: the browser's.
        url: where the page begins, without a path.
        errors: of scripts, of the console, of requests; with where.
        elsewhere: requests to anybody but control.
        expected: statuses that are no error here.
    """

    context: BrowserContext
    url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    expected: frozenset[int] = frozenset()

    async def tab(self, path: str = "/ui/") -> Page:
        """A new tab that shows this path."""
        page = await self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        await page.goto(self.url + path)
        return page

    async def sign_in(self, token: str) -> None:
        """As people do it, with the form."""
        page = await self.tab("/ui/sign-in")
        await page.get_by_label("Token").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("button", name="Sign out").wait_for()
        await page.close()

    def complaints(self) -> list[str]:
        """What went wrong so far, and every request that left the machine's control."""
        return [*self.errors, *(f"request to another host: {url}" for url in self.elsewhere)]

    async def watch(self) -> None:
        """Note whatever goes wrong in any tab."""

        async def refuse(route: Route) -> None:
            self.elsewhere.append(route.request.url)
            await route.abort()

        await self.context.route(lambda url: not url.startswith((f"{self.url}/", "data:")), refuse)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.errors.append(f"script: {error.error}"))
        self.context.on("requestfailed", self._failed)
        self.context.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # A status that was asked for is no error, and Chromium says of each that a resource failed to load.
        answered = any(f"status of {code}" in message.text for code in self.expected)
        if message.type in {"error", "warning"} and not answered:
            self.errors.append(f"console: {message.text} ({message.location['url']})")

    def _failed(self, request: Request) -> None:
        # Chromium gives up what a tab that moves on was still loading.
        if request.failure != "net::ERR_ABORTED":
            self.errors.append(f"request: {request.url} {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.errors.append(f"status {response.status}: {response.request.method} {response.url}")


@asynccontextmanager
async def visitor(
    browser: Browser, system: PageSystem, role: str = "", *, expected: Collection[int] = (), **options: Any
) -> AsyncIterator[Visitor]:
    """Somebody who is signed in with a token of this role, or not; nothing may have gone wrong when the block ends.

    Args:
        browser: a context of it is theirs.
        system: what they look at.
        role: of their token; empty for none.
        expected: statuses of refusals that they ask for.
        options: of the context, such as `java_script_enabled`.
    """
    context = await browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce"} | options)
    try:
        someone = Visitor(context=context, url=system.url, expected=frozenset(expected))
        await someone.watch()
        if role:
            await someone.sign_in(system.tokens[role])
        yield someone
        assert someone.complaints() == []
    finally:
        await context.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is; without one, tests of pages are skipped on people's machines, and fail in CI."""
    if CHROMIUM is None:
        said = "no Chromium is installed: apt-get install chromium"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(said)
        pytest.skip(said)
    return CHROMIUM


@pytest.fixture(scope="session")
def seen_system(
    chromium: str, postgres: EmbeddedPostgres, migrated_template: str, nats_url: str
) -> Iterator[PageSystem]:
    """The system that all tests of pages look at; each changes what no other one does."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MULTISHADOW_")]:
            patch.delenv(name)
        with page_system(postgres.create_database("page", template=migrated_template), nats_url) as system:
            yield system


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """One browser for all tests; each has cookies and tabs of its own."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        # Who runs as root, as CI does, gets no sandbox from Chromium; it loads nothing but our own page.
        running = await playwright.chromium.launch(
            executable_path=chromium, chromium_sandbox=False, args=["--disable-gpu", "--font-render-hinting=none"]
        )
        yield running
        await running.close()
