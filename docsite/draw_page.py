"""Takes the pictures at the top of README.md: the demonstration's ranking, on the web page and in a terminal.

Run it from a checkout with the `dev` extra and Chromium:

    .venv/bin/python -m docsite.draw_page

It runs `multishadow demo --keep`, waits for its end, and writes docs/images/ranking-light.png, ranking-dark.png and
ranking-terminal.png. What stands in them is what that run measured.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

IMAGES = Path(__file__).parents[1] / "docs" / "images"
# Its candidates stay as they are; the other model's winner is promoted and rolled back, which begins a new epoch.
MODEL = "summary"
WIDTH, HEIGHT = 1240, 900
COLUMNS = 112
# The page's own colours in the dark: black, red, green, yellow, blue, magenta, cyan, white.
TERMINAL = TerminalTheme(
    (16, 20, 28),
    (230, 233, 240),
    [
        (46, 54, 70),
        (255, 155, 146),
        (111, 211, 154),
        (240, 189, 106),
        (122, 167, 255),
        (201, 155, 224),
        (92, 179, 234),
        (230, 233, 240),
    ],
)
TERMINAL_STYLE = "body { margin: 0; } pre { margin: 0; padding: 1rem; display: inline-block; font-size: 14px; }"
UP = "keeps running until Ctrl-C"


@contextmanager
def demonstration() -> Iterator[tuple[str, str]]:
    """A demonstration that goes on, as the addresses of its web page and of control's API."""
    program = Path(sys.executable).with_name("multishadow")
    demo = subprocess.Popen([program, "demo", "--keep"], stdout=subprocess.PIPE, text=True)  # noqa: S603  our own
    assert demo.stdout is not None
    try:
        said = ""
        for line in demo.stdout:
            sys.stderr.write(line)
            said += line
            if UP in said and "MULTISHADOW_CONTROL" in line:
                break
        page = re.search(r"http://[\d.]+:\d+(?=/)", said)
        control = re.search(r"MULTISHADOW_CONTROL=(\S+)", said)
        if page is None or control is None:
            raise SystemExit("the demonstration did not come to its end; see what it says above")
        yield page[0], control[1]
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        demo.wait()


def draw_page(browser: Browser, url: str) -> None:
    """The ranking, in light and in dark."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
    page.goto(f"{url}/ui/models/{MODEL}")
    page.get_by_role("main").get_by_role("link", name=re.compile("^Experiment")).first.click()
    page.get_by_role("heading", level=1).wait_for()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=IMAGES / f"ranking-{scheme}.png")
    page.close()


def draw_terminal(browser: Browser, control: str) -> None:
    """What `shadowctl compare` prints."""
    printed = subprocess.run(  # noqa: S603  our own
        [Path(sys.executable).with_name("shadowctl"), "compare", "--model", MODEL, "--server", control],
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123  nobody reads it
    console.print(Text.from_ansi(f"$ shadowctl compare\n{printed}"))
    html = console.export_html(theme=TERMINAL, inline_styles=True)
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_content(html)
    page.add_style_tag(content=TERMINAL_STYLE)
    page.locator("pre").screenshot(path=IMAGES / "ranking-terminal.png")
    page.close()


def main() -> None:
    """Run the demonstration and take the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with demonstration() as (page, control), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False)
        draw_page(browser, page)
        draw_terminal(browser, control)
        browser.close()


if __name__ == "__main__":
    main()
