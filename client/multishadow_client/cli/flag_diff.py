"""What differs between two definitions, as a diff of their YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from rich.text import Text

from multishadow.v1.flags_pb2 import FlagChange
from multishadow_client.cli import flag_text

_STYLES = {"+": "green", "-": "red", "@": "cyan"}
# A definition is short: the whole of it is context.
_CONTEXT = 30


def diff(before: str, after: str, *, was: str, becomes: str) -> Text:
    """A unified diff of two definitions in JSON; empty when they say the same, and a missing one is an empty text.

    Args:
        before: JSON, or "" for none.
        after: JSON, or "" for none.
        was: what to call the former.
        becomes: what to call the latter.
    """
    old, new = (flag_text.of_definition(text).splitlines() for text in (before, after))
    lines = difflib.unified_diff(old, new, was, becomes, lineterm="", n=_CONTEXT)
    return Text("\n").join(_styled(line) for line in lines)


def of_changes(changes: Iterable[FlagChange]) -> Text:
    """What a write did, or would do, one flag after the other."""
    return Text("\n").join(
        diff(change.before, change.after, was=f"{change.key} (published)", becomes=f"{change.key} (new)")
        for change in changes
    )


def _styled(line: str) -> Text:
    return Text(line, style="bold" if line[:3] in {"---", "+++"} else _STYLES.get(line[:1], ""))
