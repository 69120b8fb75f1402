"""Flags, their history, and what a write came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer
from google.protobuf.message import Message
from rich.console import Group, RenderableType
from rich.text import Text

from multishadow.v1.flags_pb2 import FlagChanges, FlagDefinition
from multishadow_client.cli import document, figures, flag_diff, flag_text, listing_view, terminal
from multishadow_client.cli.exit_code import ExitCode
from multishadow_client.cli.terminal import Format

# Fields that hold JSON as text; programs want what it says.
_JSON_FIELDS = frozenset({"definition", "before", "after"})


def flags(items: Sequence[FlagDefinition]) -> RenderableType:
    """Flags with their last change."""
    rows = (
        (
            flag.key,
            flag.summary,
            flag.flag_set or figures.NONE,
            str(flag.revision),
            figures.moment(flag.changed_at),
            flag.changed_by,
            flag.reason,
        )
        for flag in items
    )
    headers = ("flag", "serves", "set", "revision", "changed", "by", "reason")
    return listing_view.table(headers, rows, nothing="no flags yet: shadowctl flags edit KEY")


def flag(item: FlagDefinition) -> RenderableType:
    """One flag: its last change, and its definition as YAML."""
    return Group(
        Text.assemble((item.key, "bold"), f": {item.summary}"),
        Text(last_change(item), style="dim"),
        Text(flag_text.of_definition(item.definition).rstrip("\n")),
    )


def last_change(item: FlagDefinition) -> str:
    """Who changed it when and why."""
    why = f": {item.reason}" if item.reason else ""
    return f"revision {item.revision}, {figures.moment(item.changed_at)}, by {item.changed_by}{why}"


def history(items: Sequence[FlagDefinition]) -> RenderableType:
    """Every line of a flag's history, newest first."""
    rows = (
        (str(line.revision), line.summary, figures.moment(line.changed_at), line.changed_by, line.reason)
        for line in items
    )
    return listing_view.table(("revision", "serves", "changed", "by", "reason"), rows, nothing="no history")


def show_changes(output: Format, changes: FlagChanges, answer: Message, *, diffs: bool = False) -> ExitCode:
    """Write what a write came to; returns FAILED for a rehearsal of one that would be refused."""
    for warning in changes.warnings:
        terminal.remark(f"warning: {warning}")
    terminal.show(output, _changes(changes, diffs=diffs), plain(answer))
    for problem in changes.problems:
        terminal.complain(problem)
    return ExitCode.FAILED if changes.problems else ExitCode.YES


def _changes(changes: FlagChanges, *, diffs: bool) -> Text:
    lines = []
    for change in changes.changes:
        words = change.summary_after if not change.before else f"{change.summary_before} → {change.summary_after}"
        lines.append(Text.assemble((change.key, "bold"), f": {'new, ' if not change.before else ''}{words}"))
    if diffs and changes.changes:
        lines.append(flag_diff.of_changes(changes.changes))
    lines += effects(changes.effects)
    lines.append(_conclusion(changes))
    return Text("\n").join(lines)


def effects(said: Sequence[str]) -> list[Text]:
    """What a write does to running experiments."""
    return [Text(effect, style="yellow") for effect in said]


def _conclusion(changes: FlagChanges) -> Text:
    number = len(changes.changes)
    if not number:
        return Text("nothing changes" if changes.dry_run else "everything was so already")
    flags = f"{number} flag{'s' if number > 1 else ''}"
    if changes.dry_run:
        return Text(f"{flags} would change; this was a dry run", style="dim")
    return Text(f"{flags} changed, revision {changes.revision}", style="dim")


def plain(message: Message) -> dict[str, Any]:
    """A message for programs, with definitions as what they are rather than as text."""
    unfolded: dict[str, Any] = _unfolded(document.plain(message))
    return unfolded


def _unfolded(value: Any) -> Any:  # noqa: ANN401 -- a document is any
    if isinstance(value, list):
        return [_unfolded(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: (json.loads(item) if item else None) if name in _JSON_FIELDS else _unfolded(item)
        for name, item in value.items()
    }


def end(code: ExitCode) -> None:
    """End the command with this code."""
    if code:
        raise typer.Exit(code)
