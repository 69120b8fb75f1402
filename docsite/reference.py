"""The pages of docs/reference, and the list of decisions: made, written, and what the code does not say for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from docsite import alarms, api, commands, failures, gates, metrics, permissions, settings
from docsite.markdown import page, prose, table

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PARTS = (commands, settings, metrics, api, failures, alarms, gates, permissions)

INTRODUCTION = """\
Facts to look up, written from the code and held to it by a test. What to do with them is in the
[how-tos](../how-to/README.md), why it is so in [concepts](../concepts.md)."""
CONTENTS = (
    ("shadowctl.md", "every command for people and pipelines, with its options"),
    ("multishadow.md", "every command that runs the roles, with its options"),
    ("settings.md", "every environment variable, its default, and who reads it"),
    ("metrics.md", "every metric at `/metrics`"),
    ("api/README.md", "every call, message and field over gRPC"),
    ("errors.md", "every error with its gRPC status, and the exit codes"),
    ("alarms.md", "every kind of alarm, and what to do"),
    ("gates.md", "every gate of a promotion"),
    ("permissions.md", "which role each call needs"),
)
DECISIONS = """\
Why it is as it is: what was decided, for which reason, by which evidence, and what was turned down. One page each."""


def omissions() -> Iterator[str]:
    """Everything that the reference should say and the code does not, in words that say what to do."""
    for part in PARTS:
        yield from part.omissions()


def pages() -> Mapping[Path, str]:
    """What should stand in docs, by path."""
    found = dict(each for part in PARTS for each in part.pages())
    rows = [(f"[{_title(found[path])}]({path})", said) for path, said in CONTENTS if path in found]
    found["README.md"] = page(title="Reference", source="docsite", parts=[INTRODUCTION, table(("page", "has"), rows)])
    reference = {DOCS / "reference" / path: text for path, text in found.items()}
    return {**reference, DOCS / "decisions" / "README.md": _decisions()}


def written() -> Mapping[Path, str]:
    """What stands there."""
    paths = [*(DOCS / "reference").rglob("*.md"), DOCS / "decisions" / "README.md"]
    return {path: path.read_text() for path in paths if path.exists()}


def write() -> list[Path]:
    """Make docs say what it should; return what had to be changed."""
    wanted, present = pages(), written()
    changed = [path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path)]
    for path in changed:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        else:
            path.unlink()
    return sorted(changed)


def _decisions() -> str:
    found = {
        path.name: _title(path.read_text())
        for path in sorted((DOCS / "decisions").glob("*.md"))
        if path.name != "README.md"
    }
    rows = sorted((f"[{prose(title)}]({name})",) for name, title in found.items())
    return page(title="Decisions", source="docs/decisions", parts=[DECISIONS, "\n".join(f"- {row}" for (row,) in rows)])


def _title(text: str) -> str:
    return text.splitlines()[0].removeprefix("# ")
