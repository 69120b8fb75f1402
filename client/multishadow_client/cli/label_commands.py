"""label: what the right answers were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from multishadow.v1 import control_pb2
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client.cli import document, figures, label_file, selection, terminal
from multishadow_client.cli.exit_code import ExitCode, Mistake
from multishadow_client.cli.label_file import Columns, Row
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Model, Output, Server, Timeout, actor, examples
from multishadow_client.cli.terminal import Format

ADD_EXAMPLES = examples(
    "shadowctl label add 7f3a2c spam", "shadowctl label add 7f3a2c --json '{\"amount\": 12.5}' --model fraud"
)
STATUS_EXAMPLES = examples("shadowctl label status", "shadowctl label status --model spam -o json")
IMPORT_EXAMPLES = examples(
    "shadowctl label import labels.csv",
    "shadowctl label import truth.jsonl --id-column id --label-column truth",
    "shadowctl label import labels.parquet --strict",
)
MOST_PROBLEMS = 20
"""Bad rows that are named one by one; of a file that is wrong throughout, more would hide the first."""
_SAID = {
    "counted": "counted",
    "waiting": "waits for its request: it is counted when that request's answers arrive",
    "duplicate": "was known already; nothing changed",
    "contradicted": "replaced another label for this request, whose counts were taken back",
}


def add(
    *,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request's id.", show_default=False)],
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="The right answer: a label, a number, a text.")
    ] = None,
    as_json: Annotated[str | None, typer.Option("--json", metavar="JSON", help="The right answer as JSON.")] = None,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Tell what the right answer to one request was.

    The last label of a request counts. A label may come before or after the answers it is held against.
    """
    if (value is None) == (as_json is None):
        raise Mistake("give the right answer once: as VALUE, or with --json")
    with ControlClient(server, timeout=timeout) as control:
        response = control.record_label(
            control_pb2.RecordLabelRequest(
                model=selection.model(model, control),
                request_id=request_id,
                value=_value(value if as_json is None else _parsed(as_json)),
                actor=actor(),
            )
        )
    said = Text.assemble((response.model, "bold"), f": the label of {request_id} {_SAID[response.reception]}")
    terminal.show(output, said, document.plain(response))


def import_labels(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSONL or Parquet, by its suffix.")],
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if any row is bad.")] = False,
    id_column: Annotated[
        str, typer.Option("--id-column", metavar="NAME", help="Column of the request ids.")
    ] = Columns().request_id,
    label_column: Annotated[
        str, typer.Option("--label-column", metavar="NAME", help="Column of the labels.")
    ] = Columns().label,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
    output: Output = Format.TABLE,
) -> None:
    """Tell the right answers of many requests, from a file.

    Bad rows are named and skipped; with --strict they keep the whole file out. Importing a file again changes nothing.

    Ends with 0 when every row was used, with 1 when some were skipped, with 2 when --strict kept the file out.
    """
    columns = Columns(request_id=id_column, label=label_column)
    if strict:
        _refuse_bad_rows(file, columns)
    with ControlClient(server, timeout=timeout) as control:
        reading = _Reading(file=file, columns=columns, model=selection.model(model, control))
        with _progress(file) as progress:
            response = control.import_labels(reading.requests(progress))
    terminal.show(output, _imported(file, response, reading.bad), {**document.plain(response), "skipped": reading.bad})
    if reading.bad:
        raise typer.Exit(ExitCode.FAILED)


def status(
    *, model: Model = "", server: Server = CONTROL, timeout: Timeout = DEFAULT_TIMEOUT, output: Output = Format.TABLE
) -> None:
    """Tell what became of a model's labels."""
    with ControlClient(server, timeout=timeout) as control:
        response = control.label_tally(selection.model(model, control))
    terminal.show(output, _tally(response), document.plain(response))


@dataclass(kw_only=True, slots=True)
class _Reading:
    """A file on its way to control; `bad` counts the rows that were skipped."""

    file: Path
    columns: Columns
    model: str
    bad: int = field(default=0)

    def requests(self, progress: Progress) -> Iterator[control_pb2.ImportLabelsRequest]:
        task, who = progress.add_task(str(self.file), total=None, rows="0"), actor()
        for number, row in enumerate(label_file.read(self.file, self.columns), start=1):
            progress.update(task, rows=figures.count(number))
            if row.problem:
                self.bad += 1
                _name(row, self.bad)
            else:
                yield control_pb2.ImportLabelsRequest(
                    model=self.model, actor=who, request_id=row.request_id, value=_value(row.value)
                )


def _refuse_bad_rows(file: Path, columns: Columns) -> None:
    bad = 0
    for row in label_file.read(file, columns):
        if row.problem:
            bad += 1
            _name(row, bad)
    if bad:
        raise Mistake(
            f"{file}: {figures.count(bad)} bad rows, so nothing was imported; without --strict they are skipped"
        )


def _name(row: Row, number: int) -> None:
    if number <= MOST_PROBLEMS:
        terminal.remark(f"{row.where}: {row.problem}")
    elif number == MOST_PROBLEMS + 1:
        terminal.remark("further bad rows are only counted")


def _progress(file: Path) -> Progress:
    columns = SpinnerColumn(), TextColumn(f"{file}: {{task.fields[rows]}} rows", markup=False), TimeElapsedColumn()
    console = terminal.stderr()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _value(value: Any) -> Value:  # noqa: ANN401 -- a label is any JSON
    try:
        return json_format.ParseDict(value, Value())
    except (json_format.ParseError, ValueError) as error:
        raise Mistake(f"{value!r:.80} cannot be sent as a label: {error}") from error


def _parsed(text: str) -> Any:  # noqa: ANN401 -- JSON is any
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Mistake(f"--json: this is no JSON: {error}") from error


def _imported(file: Path, response: control_pb2.ImportLabelsResponse, bad: int) -> Text:
    became = dict(response.receptions)
    parts = [f"{figures.count(became[what])} {what}" for what in _SAID if became.get(what)]
    if bad:
        parts.append(f"{figures.count(bad)} bad rows skipped")
    said = Text.assemble((response.model or str(file), "bold"), f": {', '.join(parts) or 'there is no label in it'}")
    if became.get("waiting"):
        said.append("\nThose that wait count when their requests' answers arrive: shadowctl label status", style="dim")
    return said


def _tally(response: control_pb2.GetLabelTallyResponse) -> Text:
    said = Text.assemble((response.model, "bold"))
    if response.HasField("terms"):
        delay, keep = figures.span(response.terms.delay_seconds), figures.span(response.terms.keep_seconds)
        said.append(f": answers are kept for {keep}; requests count when they are {delay} old")
    else:
        said.append(": its answers are not kept, so nothing can be labelled; see `labels` in docs/labels.md")
    for name, number, about in (
        ("counted", response.counted, ""),
        ("waiting", response.waiting, " for the answers to their request"),
        ("duplicate", response.duplicate, ": the same label again"),
        ("contradicted", response.contradicted, ": another label for the same request; the last one counts"),
        ("unknown", response.unknown, ": nobody saw their request, or it was too long ago"),
    ):
        said.append(f"\n  {figures.count(number):>10}  {name}{about}")
    return said
