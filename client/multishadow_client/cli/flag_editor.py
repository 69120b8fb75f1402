"""Editing one flag in the editor of whoever asks, until it can be put or they give up."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.text import Text

from multishadow.v1 import flags_pb2
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import Conflict, MultishadowError, NotFound
from multishadow_client.cli import flag_diff, flag_text, flag_view, terminal
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import actor

_TEMPLATE = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
_HELP = """
# Lines that begin with # are left out. Save it as it is, or empty, to change nothing.
# state: ENABLED or DISABLED; variants: values of one type; defaultVariant: one of them, or left out for the code's own;
# targeting: rules (https://flagd.dev/reference/flag-definitions/); metadata: text, numbers, true or false by name.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A flag as it is: its definition in JSON ("" when there is none), and the present revision."""

    definition: str
    revision: int
    about: str


def published(control: ControlClient, key: str) -> Published:
    """What is to be edited. Raises MultishadowError."""
    try:
        answer = control.get_flag_definition(flags_pb2.GetFlagDefinitionRequest(key=key))
    except NotFound:
        present = control.list_flag_definitions(flags_pb2.ListFlagDefinitionsRequest(prefix=key)).revision
        return Published(definition="", revision=present, about=f"{key} is new")
    about = f"{key}, {flag_view.last_change(answer.flag)}"
    return Published(definition=answer.flag.definition, revision=answer.revision, about=about)


def edit(control: ControlClient, key: str, *, reason: str, dry_run: bool) -> flags_pb2.PutFlagsResponse | None:
    """Open the editor until what it leaves can be put; None when nothing is to change.

    Raises:
        Mistake: the editor cannot be run, or the same mistakes were saved again; the text is kept in a file.
        MultishadowError: control refuses, or is away; Conflict when somebody was first and nobody wants to look again.
        Abort: the change was shown, and is not wanted.
    """
    present = published(control, key)
    start = json.loads(present.definition) if present.definition else _TEMPLATE
    text = flag_text.as_yaml(start)
    session = _Session(control=control, key=key, reason=reason, dry_run=dry_run, present=present, text=text)
    while session.open():
        answer = session.attempt()
        if answer is not None:
            return answer
    return None


@dataclass(kw_only=True, slots=True)
class _Session:
    """One flag in the editor: the text as it was last saved, and what was wrong with it."""

    control: ControlClient
    key: str
    reason: str
    dry_run: bool
    present: Published
    text: str
    complaint: str = ""
    overtaken: bool = False

    def open(self) -> bool:
        """Let it be edited; False when there is nothing to try."""
        edited = _without_header(_edited(_header(self.present, self.complaint) + self.text, self.key))
        same = edited == self.text
        if not edited.strip() or (same and not self.complaint):
            return False
        if same and not self.overtaken:
            kept = _kept(self.key, self.text)
            raise Mistake(f"{self.complaint}\nIt was saved with the same mistake; your text is kept in {kept}")
        self.text = edited
        return True

    def attempt(self) -> flags_pb2.PutFlagsResponse | None:
        """Put it; None when it has to be edited again."""
        self.complaint, self.overtaken = "", False
        try:
            return self._put(flag_text.as_json(flag_text.parse(self.text, self.key), self.key))
        except Mistake as error:
            self.complaint = str(error)
        except Conflict as error:
            self._look_again(error)
        except MultishadowError as error:
            error.add_note(f"your text is kept in {_kept(self.key, self.text)}")
            raise
        return None

    def _put(self, definition: str) -> flags_pb2.PutFlagsResponse | None:
        request = flags_pb2.PutFlagsRequest(
            flags=[flags_pb2.FlagWrite(key=self.key, definition=definition)],
            actor=actor(),
            reason=self.reason,
            expected_revision=self.present.revision,
            dry_run=True,
        )
        rehearsed = self.control.put_flags(request)
        if rehearsed.changes.problems:
            self.complaint = "\n".join(rehearsed.changes.problems)
            return None
        if self.dry_run or not rehearsed.changes.changes:
            return rehearsed
        if not _agreed(rehearsed.changes):
            raise typer.Abort
        request.dry_run = False
        return self.control.put_flags(request)

    def _look_again(self, error: Conflict) -> None:
        """Go on from what is published by now; raises the conflict when nobody is there who wants to."""
        terminal.stderr().print(Text(str(error)), soft_wrap=True)
        if not sys.stdin.isatty() or not terminal.confirmed("look again, with your text in hand?"):
            error.add_note(f"your text is kept in {_kept(self.key, self.text)}")
            raise error
        now = published(self.control, self.key)
        change = flag_diff.diff(
            self.present.definition, now.definition, was="when you began", becomes="published now"
        ).plain
        self.present, self.overtaken = now, True
        self.complaint = (
            f"{error}\nWhat the other one changed:\n{change}\nYour text stands below; saving it replaces theirs."
        )


def _agreed(changes: flags_pb2.FlagChanges) -> bool:
    """Show what would change, and ask where somebody can answer; whoever scripts an editor has said what they want."""
    for warning in changes.warnings:
        terminal.remark(f"warning: {warning}")
    terminal.stderr().print(flag_diff.of_changes(changes.changes), soft_wrap=True)
    for effect in flag_view.effects(changes.effects):
        terminal.stderr().print(effect, soft_wrap=True)
    return not sys.stdin.isatty() or terminal.confirmed("publish this?")


def _header(present: Published, complaint: str) -> str:
    said = "".join(f"# {line}\n" for line in f"error: {complaint}".splitlines()) if complaint else ""
    return f"# {present.about}\n{said}#{_HELP.rstrip()}\n"


def _without_header(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _edited(text: str, key: str) -> str:
    """What the editor leaves of the text. Raises Mistake when it cannot be run, or fails."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="shadowctl-") as folder:
        file = Path(folder) / f"{_safe(key)}.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            status = subprocess.run([*shlex.split(command), str(file)], check=False).returncode  # noqa: S603  theirs
            if status:
                raise Mistake(f"the editor `{command}` ended with {status}; nothing was changed")
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise Mistake(f"cannot edit with `{command}` ({error}); set VISUAL or EDITOR to another editor") from error


def _kept(key: str, text: str) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"shadowctl-{_safe(key)}-", suffix=".yaml", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    return file.name


def _safe(key: str) -> str:
    """A key as part of a file's name: control has not looked at it yet."""
    return "".join(character if character.isalnum() else "-" for character in key)[:60]
