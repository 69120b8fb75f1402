"""Pieces of Markdown that read the same on a forge and on the site."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pymdownx.slugs import slugify

NOTICE = "<!-- Written by `python -m docsite` from {source}; edit that, and run it again. -->"

_CODE = re.compile(r"(`[^`]+`)")
_slug = slugify(case="lower")


def prose(text: str) -> str:
    """Text of the code as one paragraph, with what Markdown would take for its own made harmless outside of code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") else _harmless(part) for part in parts)


def paragraphs(text: str) -> str:
    """As `prose`, for text with empty lines in it."""
    return "\n\n".join(prose(each) for each in re.split(r"\n\s*\n", text) if each.strip())


def anchor(heading: str) -> str:
    """What a link to a heading ends with: the site makes it by the same function, and forges agree with it."""
    return str(_slug(heading, "-"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a column that is empty in every row is left out, and so is a table without rows."""
    listed = [tuple(row) for row in rows]
    shown = [place for place in range(len(head)) if any(row[place] for row in listed)]
    if not listed:
        return ""
    lines = [[head[place] for place in shown], ["---"] * len(shown)]
    lines += [[row[place].replace("|", "\\|") for place in shown] for row in listed]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(*, title: str, source: str, parts: Iterable[str]) -> str:
    """A whole page: its title, where it comes from, and its parts, those that are empty left out."""
    return "\n\n".join([f"# {title}", NOTICE.format(source=source), *(part for part in parts if part)]) + "\n"


def _harmless(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")
