"""flags history, diff, revert: what flags said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import flags_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, flag_diff, flag_text, flag_view, selection, terminal
from multishadow_client.cli.exit_code import ExitCode, Mistake
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    DryRun,
    ExpectedRevision,
    FlagKey,
    Model,
    Output,
    Reason,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

HISTORY_EXAMPLES = examples("shadowctl flags history new-checkout", "shadowctl flags history spam.A -o json")
DIFF_EXAMPLES = examples(
    "shadowctl flags diff new-checkout",
    "shadowctl flags diff new-checkout 41",
    "shadowctl flags diff new-checkout 41 57",
    "shadowctl flags diff new-checkout -f new-checkout.yaml",
    "shadowctl flags diff -f flags.yaml --replace",
)
REVERT_EXAMPLES = examples(
    "shadowctl flags revert new-checkout",
    "shadowctl flags revert new-checkout --to 41 --reason 'complaints'",
    "shadowctl flags revert --set web --to 41 --dry-run",
)


def history(
    *,
    key: FlagKey,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List everything that a flag ever said, newest first: when, by whom, and why. A deleted flag keeps its history."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.list_flag_revisions(selection.flag_key(key, model, control))
    terminal.show(output, flag_view.history(response.revisions), flag_view.plain(response))


def diff(
    *,
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="The flag.", autocompletion=completion.flags, show_default=False),
    ] = "",
    from_: Annotated[
        int | None,
        typer.Argument(metavar="FROM", min=0, help="A revision; default: before its last change.", show_default=False),
    ] = None,
    to: Annotated[
        int | None,
        typer.Argument(metavar="TO", min=0, help="A revision; default: the present one.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="Compare with this: a definition, or without KEY a document."
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="A document: also what it lacks of its set.")] = False,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Compare two revisions of a flag, or a file with what is published.

    With --file it ends with 0 when the file says what is published, with 3 when it does not, and with 1 when the file
    could not be published as it is.
    """
    with ControlClient(server, timeout=timeout) as control:
        if key:
            key = selection.flag_key(key, model, control)
        if file is not None:
            flag_view.end(_diff_file(control, output, file, key, replace=replace))
        elif not key:
            raise Mistake("which flag? Name its KEY, or a --file")
        else:
            _diff_revisions(control, output, key, from_, to)


def _diff_file(control: ControlClient, output: Format, file: Path, key: str, *, replace: bool) -> ExitCode:
    text = flag_text.as_json(*flag_text.read(file))
    answer: flags_pb2.PutFlagsResponse | flags_pb2.ImportFlagsResponse
    if key:
        write = flags_pb2.FlagWrite(key=key, definition=text)
        answer = control.put_flags(flags_pb2.PutFlagsRequest(flags=[write], actor=actor(), dry_run=True))
    else:
        request = flags_pb2.ImportFlagsRequest(document=text, replace=replace, actor=actor(), dry_run=True)
        answer = control.import_flags(request)
    code = flag_view.show_changes(output, answer.changes, answer, diffs=True)
    return code or (ExitCode.NOT_YET if answer.changes.changes else ExitCode.YES)


def _diff_revisions(control: ControlClient, output: Format, key: str, from_: int | None, to: int | None) -> None:
    lines = control.list_flag_revisions(key).revisions
    newest = lines[0].revision if to is None else to
    after = _at(lines, newest)
    if from_ is None:
        from_ = (after.revision if after else newest) - 1
    before = _at(lines, max(0, from_))
    was, becomes = _name(key, before, from_), _name(key, after, newest)
    texts = [line.definition if line else "" for line in (before, after)]
    changed = flag_diff.diff(*texts, was=was, becomes=becomes)
    view = changed if changed.plain else Text("they say the same")
    answer = flags_pb2.FlagChange(key=key, before=texts[0], after=texts[1])
    terminal.show(output, view, flag_view.plain(answer))


def _at(lines: Sequence[flags_pb2.FlagDefinition], revision: int) -> flags_pb2.FlagDefinition | None:
    """The line of a history that held at a revision; None before its first."""
    return next((line for line in lines if line.revision <= revision), None)


def _name(key: str, line: flags_pb2.FlagDefinition | None, revision: int) -> str:
    return f"{key} ({flag_view.last_change(line)})" if line else f"{key} (not there at revision {revision})"


def revert(
    *,
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="The flag.", autocompletion=completion.flags, show_default=False),
    ] = "",
    to: Annotated[
        int | None,
        typer.Option("--to", min=0, metavar="REVISION", help="What it said then; default: before its last change."),
    ] = None,
    flag_set: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="All flags of this set; '' is the default set.")
    ] = None,
    reason: Reason = "",
    expected_revision: ExpectedRevision = None,
    dry_run: DryRun = False,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Give a flag, or all flags of a set, back what they said at a revision.

    What was not there then is deleted; what was deleted since comes back. The flags of versions are only reverted by
    their KEY, and never so that another version is live: that is what `rollback` is for.
    """
    if bool(key) == (flag_set is not None):
        raise Mistake("what is to be reverted? Name a KEY, or a set with --set")
    with ControlClient(server, timeout=timeout) as control:
        if key:
            key = selection.flag_key(key, model, control)
        if to is None:
            if not key:
                raise Mistake("--to: say which revision the set is to go back to")
            to = control.list_flag_revisions(key).revisions[0].revision - 1
        request = flags_pb2.RevertFlagsRequest(
            keys=[key] if key else [],
            flag_set=flag_set,
            to_revision=to,
            actor=actor(),
            reason=reason or f"reverted to revision {to}",
            expected_revision=expected_revision,
            dry_run=dry_run,
        )
        answer = control.revert_flags(request)
    flag_view.end(flag_view.show_changes(output, answer.changes, answer, diffs=dry_run))
