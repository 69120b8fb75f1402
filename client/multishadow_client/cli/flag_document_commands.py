"""flags import, export: flagd's documents."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from multishadow.v1 import flags_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import completion, flag_text, flag_view, terminal
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.options import (
    DEFAULT_TIMEOUT,
    DryRun,
    ExpectedRevision,
    FlagSet,
    Output,
    Reason,
    Server,
    Timeout,
    actor,
    examples,
)
from multishadow_client.cli.terminal import Format

IMPORT_EXAMPLES = examples(
    "shadowctl flags import -f flags.flagd.json --dry-run",
    "shadowctl flags import -f flags.yaml --replace --reason 'release 41'",
    "curl -s https://example.com/flags.json | shadowctl flags import -f -",
)
EXPORT_EXAMPLES = examples(
    "shadowctl flags export > flags.flagd.json",
    "shadowctl flags export --set web -o yaml",
    "shadowctl flags export --revision 41 -f flags-at-41.yaml",
    "shadowctl flags export new-checkout old-checkout",
)


def import_flags(
    *,
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="A flagd document, JSON or YAML; - is standard input.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete the flags of the document's set that it does not have.")
    ] = False,
    reason: Reason = "",
    expected_revision: ExpectedRevision = None,
    dry_run: DryRun = False,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Put the flags of a flagd document, all or none.

    Shared rules (`$evaluators`) are written into the flags that refer to them. The document's `metadata` becomes each
    flag's; its `flagSetId` names their set. The flags of versions are never deleted, and keep to their rules.
    """
    request = flags_pb2.ImportFlagsRequest(
        document=flag_text.as_json(*flag_text.read(file)),
        replace=replace,
        actor=actor(),
        reason=reason,
        expected_revision=expected_revision,
        dry_run=dry_run,
    )
    with ControlClient(server, timeout=timeout) as control:
        answer = control.import_flags(request)
    flag_view.end(flag_view.show_changes(output, answer.changes, answer, diffs=dry_run))


def export(
    *,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Only these; default: all.", autocompletion=completion.flags),
    ] = None,
    flag_set: FlagSet = None,
    revision: Annotated[int | None, typer.Option("--revision", min=0, metavar="REVISION", help="As they were.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Where to write it; .yaml or .yml makes it YAML."),
    ] = None,
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Write flags as a flagd document, as they are or as they were: JSON, or YAML with `--output yaml`.

    flagd serves such a file, and `import` takes it back.
    """
    with ControlClient(server, timeout=timeout) as control:
        answer = control.export_flags(
            flags_pb2.ExportFlagsRequest(keys=keys or [], flag_set=flag_set, revision=revision)
        )
    document = json.loads(answer.document)
    in_yaml = output is Format.YAML or (file is not None and file.suffix in {".yaml", ".yml"})
    text = flag_text.as_yaml(document) if in_yaml else json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Mistake(f"cannot write {file}: {error.strerror}") from error
    terminal.remark(f"{len(document['flags'])} flags of revision {answer.revision} are in {file}")
