"""What MkDocs leaves open: folders in the navigation, links to files that are no pages, and requests to elsewhere.

The pages read on a forge as they do here. So they link to `../deploy/nats.conf` as it lies in the checkout; on the site
such a file becomes a page of its own, and nothing has to be known of where the checkout is published.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LANGUAGES = {".proto": "protobuf", ".yml": "yaml", ".yaml": "yaml", ".conf": "nginx", ".py": "python"}
SHOWN = "source"

# A warning ends a strict build.
_log = logging.getLogger("mkdocs.hooks.docsite")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|link(?! rel="?canonical))\b[^>]*?\b(?:src|href)=["']?(\w+:[^"'> ]+)"""
)
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of each folder that the navigation names in its place."""
    config.nav = [_expanded(entry, Path(config.docs_dir)) for entry in config.nav or []]


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add a page for each file of the checkout that a page links to."""
    for file in list(files.documentation_pages()):
        for outside in _outside(file.content_string, file.src_uri):
            path = Path(config.docs_dir).parent / outside
            if path.is_file() and files.get_file_from_path(_page_of(outside)) is None:
                files.append(File.generated(config, _page_of(outside), content=_as_page(path, outside)))


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Let links to such files lead to their pages."""
    here = posixpath.dirname(page.file.src_uri)

    def to_page(link: re.Match[str]) -> str:
        outside = _path_outside(link[1], page.file.src_uri)
        if not outside:
            return link[0]
        return f"]({posixpath.relpath(_page_of(outside), here or '.')})"

    return _LINK.sub(to_page, markdown)


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """Warn of what a reader's browser would fetch from elsewhere."""
    for address in fetched_from_elsewhere(output):
        _log.warning("%s: a reader's browser would fetch %s", page.file.src_uri, address)
    return output


def fetched_from_elsewhere(html: str) -> list[str]:
    """Addresses of scripts, styles and pictures that a page does not bring along."""
    return [address for address in _FETCHED.findall(html) if not address.startswith("data:")]


def _expanded(entry: Any, docs: Path) -> Any:  # noqa: ANN401  as YAML has it
    if isinstance(entry, dict):
        return {title: _expanded(below, docs) for title, below in entry.items()}
    if isinstance(entry, list):
        return [each for below in entry for each in _listed(below, docs)]
    return entry


def _listed(entry: Any, docs: Path) -> list[Any]:  # noqa: ANN401  as above
    if not (isinstance(entry, str) and entry.endswith("/")):
        return [_expanded(entry, docs)]
    pages = sorted((docs / entry).glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    return [f"{entry}{path.name}" for path in pages]


def _outside(markdown: str, page: str) -> set[str]:
    return {outside for link in _LINK.finditer(markdown) if (outside := _path_outside(link[1], page))}


def _path_outside(target: str, page: str) -> str:
    """Where a link leads that leaves the pages, from the top of the checkout; empty for any other."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return "" if path.startswith("docs/") or path == "docs" else path


def _page_of(outside: str) -> str:
    return f"{SHOWN}/{outside}.md"


def _as_page(path: Path, outside: str) -> str:
    language = LANGUAGES.get(path.suffix, "dockerfile" if path.name == "Dockerfile" else "text")
    return f"# {outside}\n\n`````{language}\n{path.read_text().rstrip()}\n`````\n"
