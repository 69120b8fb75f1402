"""flags get, set, edit, delete: what flags say now."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multishadow.v1 import control_pb2, flags_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import NotFound
from multishadow_client.cli import (
    completion,
    document,
    flag_editor,
    flag_text,
    flag_view,
    selection,
    terminal,
)
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    DryRun,
    ExpectedRevision,
    FlagKey,
    FlagSet,
    Model,
    Output,
    Percent,
    Reason,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

_CLAIMS = {
    "off": control_pb2.CLAIM_OFF,
    "shadow": control_pb2.CLAIM_SHADOW,
    "live": control_pb2.CLAIM_LIVE,
}

GET_EXAMPLES = examples(
    "shadowctl flags get",
    "shadowctl flags get new-checkout",
    "shadowctl flags get new-checkout --revision 41 -o yaml",
    "shadowctl flags get --set web -o json | jq -r '.flags[].key'",
)
SET_EXAMPLES = examples(
    "shadowctl flags set new-checkout on --percent 25",
    "shadowctl flags set new-checkout --variant on --reason 'all is well'",
    "shadowctl flags set new-checkout -f new-checkout.yaml --dry-run",
    "shadowctl flags set spam.A shadow --percent 25",
    "shadowctl flags set A off --model spam --reason 'eats all the memory'",
)
EDIT_EXAMPLES = examples(
    "shadowctl flags edit new-checkout --reason 'Austria, too'",
    "EDITOR='code --wait' shadowctl flags edit spam.A",
)
DELETE_EXAMPLES = examples("shadowctl flags delete new-checkout --yes --reason 'it is on for good'")

File = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="The definition in JSON or YAML; - is standard input."),
]
Revision = Annotated[int | None, typer.Option("--revision", min=0, metavar="REVISION", help="As it was then.")]


def get(
    *,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="A flag; default: all.", autocompletion=completion.flags, show_default=False
        ),
    ] = "",
    flag_set: FlagSet = None,
    revision: Revision = None,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """List flags, or show one with its definition in flagd's format."""
    with ControlClient(server, timeout=timeout) as control:
        if key:
            key = selection.flag_key(key, model, control)
            one = control.get_flag_definition(flags_pb2.GetFlagDefinitionRequest(key=key, revision=revision))
            terminal.show(output, flag_view.flag(one.flag), flag_view.plain(one))
            return
        if revision is not None:
            raise Mistake("--revision is for one KEY; all flags as they were: `shadowctl flags export --revision`")
        response = control.list_flag_definitions(flags_pb2.ListFlagDefinitionsRequest(flag_set=flag_set))
    terminal.show(output, flag_view.flags(response.flags), flag_view.plain(response))


def set_flag(
    *,
    key: FlagKey,
    serve: Annotated[
        str,
        typer.Argument(
            metavar="VARIANT",
            help="The variant to serve; for a version's off, shadow or live.",
            autocompletion=completion.variants,
            show_default=False,
        ),
    ] = "",
    variant: Annotated[
        str, typer.Option("--variant", metavar="VARIANT", help="The same by name.", show_default=False)
    ] = "",
    percent: Percent = None,
    file: File = None,
    reason: Reason = "",
    expected_revision: ExpectedRevision = None,
    dry_run: DryRun = False,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Serve one variant of a flag, to all or to a share; or give the flag the definition in a file.

    With --percent, the flag's default goes to the rest; more percent later only widen the share. Rules that somebody
    wrote by hand are never dropped: `edit` changes those.

    The flag of a version says what it claims. With --percent, `shadow` gives it that share of requests as copies. To
    make a version live, use `promote`, which `rollback` takes back.
    """
    wanted = _wanted(serve, variant, file, percent)
    with ControlClient(server, timeout=timeout) as control:
        if file is None and _is_claim(control, key, wanted, model):
            named, version = selection.version(key, model, control)
            response = control.set_flag(
                control_pb2.SetFlagRequest(
                    model=named,
                    version=version,
                    claim=_claim(wanted),
                    percent=percent,
                    actor=actor(),
                    reason=reason,
                    expected_revision=expected_revision,
                    dry_run=dry_run,
                )
            )
            _show_claim(output, response, dry_run=dry_run)
            return
        write = flags_pb2.FlagWrite(key=key)
        if file is None:
            write.serve.CopyFrom(flags_pb2.ServeVariant(variant=wanted, percent=percent))
        else:
            write.definition = flag_text.as_json(*flag_text.read(file))
        request = flags_pb2.PutFlagsRequest(
            flags=[write], actor=actor(), reason=reason, expected_revision=expected_revision, dry_run=dry_run
        )
        answer = control.put_flags(request)
    flag_view.end(flag_view.show_changes(output, answer.changes, answer, diffs=dry_run))


def _wanted(serve: str, variant: str, file: Path | None, percent: float | None) -> str:
    if sum((bool(serve), bool(variant), file is not None)) != 1:
        raise Mistake("say what to serve: a VARIANT, or a whole definition with --file")
    if file is not None and percent is not None:
        raise Mistake("--percent is for a VARIANT; a file says everything")
    return serve or variant


def _is_claim(control: ControlClient, key: str, wanted: str, model: str) -> bool:
    """Whether the key means a version: it is one's flag, or there is no such flag and what is wanted is a claim.

    Raises:
        Mistake: it is a flag's key and a version's name.
    """
    try:
        flag = control.get_flag_definition(flags_pb2.GetFlagDefinitionRequest(key=key)).flag
    except NotFound:
        flag = None
    if flag is not None and flag.version:
        return True
    models = control.list_models().models
    owners = [each.name for each in models if key in each.versions and (model or each.name) == each.name]
    if flag is not None and owners and wanted in _CLAIMS:
        raise Mistake(f"{key} is a flag, and a version of {', '.join(owners)}; for the version say {owners[0]}.{key}")
    if flag is not None:
        return False
    return wanted in _CLAIMS or bool(owners) or any(key.startswith(f"{each.name}.") for each in models)


def _claim(wanted: str) -> control_pb2.Claim.ValueType:
    if wanted not in _CLAIMS:
        raise Mistake(f"{wanted!r} is no claim; a version claims {', '.join(_CLAIMS)}")
    return _CLAIMS[wanted]


def _show_claim(output: Format, response: control_pb2.SetFlagResponse, *, dry_run: bool) -> None:
    ending = " (dry run: nothing was changed)" if dry_run else f", revision {response.revision}"
    said = Text.assemble((response.flag.key, "bold"), f": {response.flag.claim}{ending}")
    lines = [said, *flag_view.effects(response.effects)]
    terminal.show(output, Text("\n").join(lines), document.plain(response))
    terminal.warn(response.warnings)


def edit(
    *,
    key: FlagKey,
    reason: Reason = "",
    dry_run: DryRun = False,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Edit a flag, or a new one, in $VISUAL or $EDITOR.

    What you save is checked, and comes back with what is wrong until it is right. You see what would change before it
    is published, and if somebody else was first you are asked to look again. Nothing happens to a file that you do not
    change.
    """
    with ControlClient(server, timeout=timeout) as control:
        key = selection.flag_key(key, model, control)
        answer = flag_editor.edit(control, key, reason=reason, dry_run=dry_run)
    if answer is None:
        terminal.show(output, Text(f"{key}: nothing was changed"), {"changes": None})
        return
    flag_view.end(flag_view.show_changes(output, answer.changes, answer, diffs=dry_run))


def delete(
    *,
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY", help="The flags.", autocompletion=completion.flags, show_default=False),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")] = False,
    reason: Reason = "",
    expected_revision: ExpectedRevision = None,
    dry_run: DryRun = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Delete flags; whoever reads them gets the default in the code. `revert` brings them back."""
    if not yes and not dry_run:
        if not sys.stdin.isatty():
            raise Mistake("there is nobody here to ask whether to delete; pass --yes to go without asking")
        if not terminal.confirmed(f"delete {', '.join(keys)}? Whoever reads them gets the default in the code"):
            raise typer.Abort
    with ControlClient(server, timeout=timeout) as control:
        request = flags_pb2.DeleteFlagsRequest(
            keys=keys, actor=actor(), reason=reason, expected_revision=expected_revision, dry_run=dry_run
        )
        answer = control.delete_flags(request)
    flag_view.end(flag_view.show_changes(output, answer.changes, answer, diffs=dry_run))
