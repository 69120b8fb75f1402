"""divergences export: stored answers into a file, for fine-tuning and for notebooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from multishadow.v1 import export_pb2 as pb
from multishadow_client._address import CONTROL
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import Unavailable
from multishadow_client.cli import answer_filter, export_file, figures, selection, terminal
from multishadow_client.cli.answer_filter import Above, Attributes, Below, Candidate, Outcomes, Reviewed, Since
from multishadow_client.cli.exit_code import Mistake
from multishadow_client.cli.export_file import STDOUT, FileFormat
from multishadow_client.cli.options import DEFAULT_TIMEOUT, Model, Server, Timeout, actor, examples

EXAMPLES = examples(
    "shadowctl divergences export -o divergences.jsonl",
    "shadowctl divergences export -o answers.parquet --what comparisons --since 7d",
    "shadowctl divergences export --chat --reviewed yes -o fine-tuning.jsonl",
    "shadowctl divergences export -o - --where country=NO | jq .similarity",
)

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before it goes on where it was when control goes away; all of them again when something came meanwhile."""


class What(StrEnum):
    """Which answers are exported."""

    DIVERGENCES = "divergences"
    COMPARISONS = "comparisons"


@dataclass(kw_only=True, slots=True)
class Reading:
    """An export on its way: how many came, and the cursor after which it goes on."""

    count: int = 0
    cursor: str = ""


def export(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to; `-` is stdout.", show_default=False)
    ],
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", show_default=False, help="Default: by the file's suffix, or jsonl.")
    ] = None,
    what: Annotated[
        What, typer.Option("--what", help="Answers that diverged, or all that are stored.")
    ] = What.DIVERGENCES,
    chat: Annotated[
        bool,
        typer.Option("--chat", help="Lines with `messages`, as fine-tuning tools take them, with the right answer."),
    ] = False,
    version: Candidate = "",
    outcome: Outcomes = None,
    where: Attributes = None,
    similarity_from: Above = None,
    similarity_to: Below = None,
    reviewed: Reviewed = None,
    since: Since = 0,
    after: Annotated[
        str, typer.Option("--after", metavar="CURSOR", show_default=False, help="What an earlier export ended with.")
    ] = "",
    experiment: Annotated[
        int, typer.Option("--experiment", min=0, metavar="ID", show_default=False, help="Default: all of the model's.")
    ] = 0,
    model: Model = "",
    server: Server = CONTROL,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Write stored answers into a file, oldest first; it appears when it is whole.

    Payloads come as they were stored, and the model's rules of redaction are applied once more. With --chat, each
    comparison is one conversation: the answer is the label, or the one that somebody called better, or live's.

    When control goes away meanwhile, the export goes on where it was when it is back.
    """
    written_as = file_format or (FileFormat.PARQUET if out.suffix == ".parquet" else FileFormat.JSONL)
    _check(out, written_as, chat=chat)
    reading, left_out = Reading(cursor=after), [0]
    with ControlClient(server, timeout=timeout) as control:
        which = answer_filter.chosen(
            model=selection.model(model, control),
            experiment=experiment,
            version=version,
            outcomes=outcome or (["all"] if what is What.COMPARISONS else None),
            where=where,
            similarity_from=similarity_from,
            similarity_to=similarity_to,
            reviewed=reviewed,
            since=since,
        )
        with _progress(out) as progress:
            answers = _shown(read(control, which, reading), progress, out)
            records = export_file.chat(answers, lambda: _count(left_out)) if chat else map(export_file.record, answers)
            lines = export_file.write(out, written_as, records)
    _tell(out, lines, left_out[0], reading, chat=chat)


def read(
    control: ControlClient, which: pb.AnswerFilter, reading: Reading, *, pause: Callable[[float], object] = time.sleep
) -> Iterator[pb.StoredAnswer]:
    """The answers; where control goes away, it is asked again for those after the last that came.

    Raises:
        Unavailable: it stayed away.
        MultishadowError: with its message.
    """
    pauses = iter(PAUSES)
    whole = False
    while not whole:
        try:
            request = pb.ExportRequest(filter=which, cursor=reading.cursor, actor=actor())
            for response in control.export(request):
                reading.cursor = response.cursor
                if response.HasField("answer"):
                    reading.count += 1
                    pauses = iter(PAUSES)
                    yield response.answer
            whole = True
        except Unavailable:
            wait = next(pauses, None)
            if wait is None:
                raise
            pause(wait)


def _check(out: Path, written_as: FileFormat, *, chat: bool) -> None:
    if written_as is FileFormat.PARQUET:
        if chat:
            raise Mistake("--chat writes JSON lines; leave out `--format parquet`, or choose a name ending in .jsonl")
        if out == STDOUT:
            raise Mistake("Parquet cannot be written to stdout: its end says where everything stands; name a file")
        export_file.check_parquet()
    if out != STDOUT and not out.parent.is_dir():
        raise Mistake(f"there is no folder {out.parent}")


def _shown(answers: Iterator[pb.StoredAnswer], progress: Progress, out: Path) -> Iterator[pb.StoredAnswer]:
    task = progress.add_task(str(out), total=None, rows="0")
    for count, answer in enumerate(answers, start=1):
        progress.update(task, rows=figures.count(count))
        yield answer


def _progress(file: Path) -> Progress:
    columns = SpinnerColumn(), TextColumn(f"{file}: {{task.fields[rows]}} answers", markup=False), TimeElapsedColumn()
    console = terminal.stderr()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _count(left_out: list[int]) -> None:
    left_out[0] += 1


def _tell(out: Path, lines: int, left_out: int, reading: Reading, *, chat: bool) -> None:
    what = "conversations" if chat else "answers"
    place = "" if out == STDOUT else f" in {out}"
    terminal.remark(f"{figures.count(lines)} {what}{place}")
    if left_out:
        terminal.remark(
            f"{figures.count(left_out)} comparisons make no conversation: nobody knows a right answer, or they are no "
            "text, or not stored"
        )
    if reading.cursor:
        terminal.remark(f"what comes later: --after {reading.cursor}")
