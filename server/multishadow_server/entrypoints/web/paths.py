"""Where the page is, and where its own files are."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

UI = "/ui"
SIGN_IN = f"{UI}/sign-in"
SIGN_OUT = f"{UI}/sign-out"
THEME = f"{UI}/theme"
STATIC = f"{UI}/static"

FILES = Path(__file__).parent / "static"
NAMES = frozenset(file.name for file in FILES.iterdir())


@cache
def static_path(name: str) -> str:
    """Where a file of `static/` is to be had: with its content's digest, so that browsers may keep it for good."""
    digest = hashlib.sha256((FILES / name).read_bytes()).hexdigest()[:12]
    return f"{STATIC}/{name}?{digest}"
